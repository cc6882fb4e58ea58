//! Who is let in: at most so many connections at once, and so many of one address, on all machines that share a store.
//!
//! Both counts are kept at the two ends of a connection's life, and nowhere between.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The connections of a process.
#[derive(Clone, Debug)]
pub(crate) struct Admissions(Arc<Counted>);

#[derive(Debug)]
struct Counted {
    limit: usize,
    limit_of_address: usize,
    connections: AtomicUsize,
    /// How many each address has; those that have none are not there. Empty if there is no limit.
    addresses: Mutex<BTreeMap<IpAddr, usize>>,
}

/// Why a connection is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// There are as many as there may be.
    All,
    /// Its address has as many as one may have.
    Address,
}

impl Admissions {
    /// At most `limit`, and of one address `limit_of_address`, if that is less.
    pub(crate) fn new(limit: usize, limit_of_address: usize) -> Self {
        let (connections, addresses) = (AtomicUsize::new(0), Mutex::default());
        Self(Arc::new(Counted { limit, limit_of_address, connections, addresses }))
    }

    /// Of one machine, which has none yet.
    pub(crate) fn guests(&self) -> Guests {
        Guests { admissions: self.clone(), count: 0, addresses: BTreeMap::new() }
    }

    /// Counts one more. If its address counts, that is given back, to be said again when it [leaves](Self::leave).
    fn enter(&self, address: Option<IpAddr>) -> Result<Option<IpAddr>, Refused> {
        let more = |count: usize| (count < self.0.limit).then_some(count + 1);
        let counted = self.0.connections.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        counted.map_err(|_| Refused::All)?;
        let address = address.filter(|_| self.0.limit_of_address < self.0.limit).map(network);
        if let Some(address) = address {
            let mut addresses = self.addresses();
            let count = addresses.entry(address).or_insert(0);
            if *count >= self.0.limit_of_address {
                drop(addresses);
                self.0.connections.fetch_sub(1, Ordering::Relaxed);
                return Err(Refused::Address);
            }
            *count += 1;
        }
        Ok(address)
    }

    /// One that was let in is gone.
    fn leave(&self, address: Option<IpAddr>) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
        let Some(address) = address else { return };
        let mut addresses = self.addresses();
        if let Some(count) = addresses.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                addresses.remove(&address);
            }
        }
    }

    fn is_crowded(&self) -> bool {
        self.0.connections.load(Ordering::Relaxed) > self.0.limit.saturating_sub((self.0.limit / 16).max(1))
    }

    fn addresses(&self) -> MutexGuard<'_, BTreeMap<IpAddr, usize>> {
        self.0.addresses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The connections of one machine. Dropped, it gives up their places.
#[derive(Debug)]
pub(crate) struct Guests {
    admissions: Admissions,
    count: usize,
    /// By slot, those whose address counts.
    addresses: BTreeMap<usize, IpAddr>,
}

impl Guests {
    /// A connection in this slot asks to come in.
    pub(crate) fn enter(&mut self, slot: usize, address: Option<IpAddr>) -> Result<(), Refused> {
        if let Some(address) = self.admissions.enter(address)? {
            self.addresses.insert(slot, address);
        }
        self.count += 1;
        Ok(())
    }

    /// It is gone.
    pub(crate) fn leave(&mut self, slot: usize) {
        self.count -= 1;
        self.admissions.leave(self.addresses.remove(&slot));
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// Whether so few places are left that those who do not use theirs should go: less than one in sixteen.
    pub(crate) fn is_crowded(&self) -> bool {
        self.admissions.is_crowded()
    }
}

impl Drop for Guests {
    fn drop(&mut self) {
        while let Some((_, address)) = self.addresses.pop_first() {
            self.admissions.leave(Some(address));
            self.count -= 1;
        }
        (0..self.count).for_each(|_| self.admissions.leave(None));
    }
}

/// What one customer of a provider has: an IPv4 address, or 64 bits of an IPv6 address.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        four @ IpAddr::V4(_) => four,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn no_more_come_in_than_there_is_room_for() {
        let door = Admissions::new(2, 2);
        assert_eq!((door.enter(None), door.enter(Some(address("1.2.3.4")))), (Ok(None), Ok(None)));
        assert_eq!(door.enter(None), Err(Refused::All));
        door.leave(None);
        assert_eq!(door.enter(None), Ok(None));
    }

    #[test]
    fn no_address_takes_more_than_its_share() {
        let door = Admissions::new(10, 2);
        let one = Some(address("1.2.3.4"));
        assert_eq!((door.enter(one), door.enter(one)), (Ok(one), Ok(one)));
        assert_eq!(door.enter(one), Err(Refused::Address));
        assert_eq!(door.enter(Some(address("1.2.3.5"))), Ok(Some(address("1.2.3.5"))));
        door.leave(one);
        assert_eq!(door.enter(one), Ok(one));
        // One that was refused takes no place.
        for _ in 0..20 {
            assert_eq!(door.enter(one), Err(Refused::Address));
        }
        assert_eq!(door.enter(None), Ok(None));
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let door = Admissions::new(10, 1);
        assert_eq!(door.enter(Some(address("2001:db8::1"))), Ok(Some(address("2001:db8::"))));
        assert_eq!(door.enter(Some(address("2001:db8::ffff:1"))), Err(Refused::Address));
        assert_eq!(door.enter(Some(address("2001:db8:0:1::1"))), Ok(Some(address("2001:db8:0:1::"))));
    }

    #[test]
    fn ipv4_is_the_same_by_whatever_socket() {
        let door = Admissions::new(10, 1);
        assert_eq!(door.enter(Some(address("::ffff:1.2.3.4"))), Ok(Some(address("1.2.3.4"))));
        assert_eq!(door.enter(Some(address("1.2.3.4"))), Err(Refused::Address));
    }

    #[test]
    fn nothing_is_kept_of_those_who_left() {
        let door = Admissions::new(10, 1);
        for last in 0..100 {
            let came = door.enter(Some(address(&format!("10.0.0.{last}")))).unwrap();
            door.leave(came);
        }
        assert!(door.addresses().is_empty());
    }

    #[test]
    fn it_is_crowded_before_it_is_full() {
        let door = Admissions::new(32, 32);
        (0..30).for_each(|_| assert_eq!(door.enter(None), Ok(None)));
        assert!(!door.is_crowded());
        assert_eq!(door.enter(None), Ok(None));
        assert!(door.is_crowded());
        door.leave(None);
        assert!(!door.is_crowded());
    }

    #[test]
    fn a_machine_that_is_gone_takes_no_place() {
        let door = Admissions::new(10, 2);
        let mut guests = door.guests();
        guests.enter(0, Some(address("1.2.3.4"))).unwrap();
        guests.enter(1, None).unwrap();
        guests.enter(2, Some(address("1.2.3.5"))).unwrap();
        guests.leave(2);
        assert_eq!(guests.len(), 2);
        drop(guests);
        assert_eq!(door.0.connections.load(Ordering::Relaxed), 0);
        assert!(door.addresses().is_empty());
    }
}
