//! Dates as HTTP writes them: the IMF-fixdate of RFC 9110 section 5.6.7, in 29 bytes on the stack.

use crate::time::UnixMillis;

const DAYS: &[u8; 21] = b"SunMonTueWedThuFriSat";
const MONTHS: &[u8; 36] = b"JanFebMarAprMayJunJulAugSepOctNovDec";
const SECONDS_PER_DAY: u64 = 86_400;
/// The last second that has a year of four digits: 9999-12-31 23:59:59.
const LAST_SECOND: u64 = 253_402_300_799;

/// `Sun, 06 Nov 1994 08:49:37 GMT`. Times after the year 9999 are written as its last second.
pub(super) fn imf_fixdate(time: UnixMillis) -> [u8; 29] {
    let seconds = (time.0 / 1000).min(LAST_SECOND);
    let (days, second) = (seconds / SECONDS_PER_DAY, seconds % SECONDS_PER_DAY);
    let (year, month, day) = civil(days);
    let mut date = *b"---, -- --- ---- --:--:-- GMT";
    date[..3].copy_from_slice(name(DAYS, (days + 4) % 7)); // 1970-01-01 was a Thursday
    date[5..7].copy_from_slice(&two_digits(day));
    date[8..11].copy_from_slice(name(MONTHS, month));
    date[12..14].copy_from_slice(&two_digits(year / 100));
    date[14..16].copy_from_slice(&two_digits(year));
    date[17..19].copy_from_slice(&two_digits(second / 3600));
    date[20..22].copy_from_slice(&two_digits(second / 60 % 60));
    date[23..25].copy_from_slice(&two_digits(second % 60));
    date
}

/// Year, month (from 0) and day (from 1) of a day since 1970-01-01.
///
/// It counts in years that begin in March, so that the leap day is a year's last, and in eras of 400 years, which are
/// all of the same length.
fn civil(days: u64) -> (u64, u64, u64) {
    const DAYS_PER_ERA: u64 = 146_097;
    const DAYS_FROM_YEAR_0_MARCH: u64 = 719_468;
    let days = days + DAYS_FROM_YEAR_0_MARCH;
    let (era, day_of_era) = (days / DAYS_PER_ERA, days % DAYS_PER_ERA);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / (DAYS_PER_ERA - 1)) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153; // five months from March on have 153 days together
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12;
    let year = era * 400 + year_of_era + u64::from(month < 2);
    (year, month, day)
}

fn name(names: &[u8], index: u64) -> &[u8] {
    let at = index as usize * 3;
    &names[at..at + 3]
}

/// The last two of its digits.
const fn two_digits(number: u64) -> [u8; 2] {
    [b'0' + (number / 10 % 10) as u8, b'0' + (number % 10) as u8]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn date(seconds: u64) -> alloc::string::String {
        alloc::string::String::from_utf8(imf_fixdate(UnixMillis(seconds * 1000)).to_vec()).unwrap()
    }

    #[test]
    fn known_dates() {
        for (seconds, text) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (1_709_164_799, "Wed, 28 Feb 2024 23:59:59 GMT"),
            (1_735_689_599, "Tue, 31 Dec 2024 23:59:59 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
            (LAST_SECOND, "Fri, 31 Dec 9999 23:59:59 GMT"),
        ] {
            assert_eq!(date(seconds), text);
        }
        assert_eq!(imf_fixdate(UnixMillis(u64::MAX)), imf_fixdate(UnixMillis(LAST_SECOND * 1000)));
    }

    #[test]
    fn every_day_of_four_centuries_follows_the_one_before() {
        let (mut year, mut month, mut day) = (1970, 0, 1);
        for days in 0..146_097 {
            assert_eq!(civil(days), (year, month, day));
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let length = [31, 28 + u64::from(leap), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31][month as usize];
            day += 1;
            if day > length {
                (month, day) = (month + 1, 1);
            }
            if month == 12 {
                (year, month) = (year + 1, 0);
            }
        }
    }
}
