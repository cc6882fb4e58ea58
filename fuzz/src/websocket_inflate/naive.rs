//! The plainest inflater (RFC 1951): bit by bit, into one buffer.

use std::cmp::Ordering;

/// Why a message is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// More comes out than there may.
    TooLarge,
    /// A code leaves bits without a meaning. A single code of one bit may, but for that of the lengths of codes.
    IncompleteCode,
    /// Anything else.
    Malformed,
}

use Refused::{IncompleteCode, Malformed, TooLarge};

/// The lengths that symbols from 257 stand for, and the bits that are added; then the same for distances.
const LENGTHS: [(usize, u32); 29] = [
    (3, 0),
    (4, 0),
    (5, 0),
    (6, 0),
    (7, 0),
    (8, 0),
    (9, 0),
    (10, 0),
    (11, 1),
    (13, 1),
    (15, 1),
    (17, 1),
    (19, 2),
    (23, 2),
    (27, 2),
    (31, 2),
    (35, 3),
    (43, 3),
    (51, 3),
    (59, 3),
    (67, 4),
    (83, 4),
    (99, 4),
    (115, 4),
    (131, 5),
    (163, 5),
    (195, 5),
    (227, 5),
    (258, 0),
];
const DISTANCES: [(usize, u32); 30] = [
    (1, 0),
    (2, 0),
    (3, 0),
    (4, 0),
    (5, 1),
    (7, 1),
    (9, 2),
    (13, 2),
    (17, 3),
    (25, 3),
    (33, 4),
    (49, 4),
    (65, 5),
    (97, 5),
    (129, 6),
    (193, 6),
    (257, 7),
    (385, 7),
    (513, 8),
    (769, 8),
    (1025, 9),
    (1537, 9),
    (2049, 10),
    (3073, 10),
    (4097, 11),
    (6145, 11),
    (8193, 12),
    (12289, 12),
    (16385, 13),
    (24577, 13),
];
/// The order in which the lengths of the codes of lengths come.
const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/// Inflates a message. It ends inside a block that is empty and not compressed, before the length (RFC 7692 section 7.2.1).
pub(super) fn message(payload: &[u8], limit: usize) -> Result<Vec<u8>, Refused> {
    let mut stream = Stream { bytes: payload, at: 0, out: Vec::new(), begin: 0, limit };
    loop {
        let last = stream.bits(1)? == 1;
        match stream.bits(2)? {
            0 => {
                stream.at = stream.at.next_multiple_of(8);
                if stream.at == payload.len() * 8 {
                    return Ok(stream.out);
                }
                stream.stored()?;
            }
            1 => {
                let lengths: Vec<u8> = (0..288)
                    .map(|symbol| match symbol {
                        0..144 => 8,
                        144..256 => 9,
                        256..280 => 7,
                        _ => 8,
                    })
                    .collect();
                stream.compressed(&Code::new(&lengths), &Code::new(&[5; 32]))?;
            }
            2 => stream.dynamic()?,
            _ => return Err(Malformed),
        }
        if last {
            stream.at = stream.at.next_multiple_of(8);
            stream.begin = stream.out.len();
        }
    }
}

struct Stream<'a> {
    bytes: &'a [u8],
    /// The next bit.
    at: usize,
    out: Vec<u8>,
    /// What distances reach back to.
    begin: usize,
    limit: usize,
}

impl Stream<'_> {
    fn bits(&mut self, count: u32) -> Result<usize, Refused> {
        let mut value = 0;
        for place in 0..count {
            let byte = self.bytes.get(self.at / 8).ok_or(Malformed)?;
            value |= usize::from(byte >> (self.at % 8) & 1) << place;
            self.at += 1;
        }
        Ok(value)
    }

    fn put(&mut self, byte: u8) -> Result<(), Refused> {
        self.out.push(byte);
        if self.out.len() > self.limit { Err(TooLarge) } else { Ok(()) }
    }

    fn stored(&mut self) -> Result<(), Refused> {
        let (length, complement) = (self.bits(16)?, self.bits(16)?);
        if length != complement ^ 0xffff {
            return Err(Malformed);
        }
        for _ in 0..length {
            let byte = self.bits(8)? as u8;
            self.put(byte)?;
        }
        Ok(())
    }

    fn dynamic(&mut self) -> Result<(), Refused> {
        let (symbols, distances, codes) = (self.bits(5)? + 257, self.bits(5)? + 1, self.bits(4)? + 4);
        if symbols > 286 || distances > 30 {
            return Err(Malformed);
        }
        let mut lengths = [0; 19];
        for &place in &ORDER[..codes] {
            lengths[place] = self.bits(3)? as u8;
        }
        let code = Code::new(&lengths);
        code.check(false)?;
        let mut lengths: Vec<u8> = Vec::new();
        while lengths.len() < symbols + distances {
            let (value, count) = match self.symbol(&code)? {
                16 => (*lengths.last().ok_or(Malformed)?, 3 + self.bits(2)?),
                17 => (0, 3 + self.bits(3)?),
                18 => (0, 11 + self.bits(7)?),
                length => (length as u8, 1),
            };
            lengths.resize(lengths.len() + count, value);
        }
        if lengths.len() > symbols + distances || lengths[256] == 0 {
            return Err(Malformed);
        }
        let (symbols, distances) = lengths.split_at(symbols);
        let (symbols, distances) = (Code::new(symbols), Code::new(distances));
        symbols.check(true)?;
        distances.check(true)?;
        self.compressed(&symbols, &distances)
    }

    fn compressed(&mut self, symbols: &Code, distances: &Code) -> Result<(), Refused> {
        loop {
            let symbol = self.symbol(symbols)?;
            match symbol {
                0..256 => self.put(symbol as u8)?,
                256 => return Ok(()),
                _ => {
                    let &(length, more) = LENGTHS.get(symbol - 257).ok_or(Malformed)?;
                    let length = length + self.bits(more)?;
                    let symbol = self.symbol(distances)?;
                    let &(distance, more) = DISTANCES.get(symbol).ok_or(Malformed)?;
                    let distance = distance + self.bits(more)?;
                    for _ in 0..length {
                        let from = self.out.len().checked_sub(distance).filter(|from| *from >= self.begin);
                        self.put(self.out[from.ok_or(Malformed)?])?;
                    }
                }
            }
        }
    }

    fn symbol(&mut self, code: &Code) -> Result<usize, Refused> {
        let mut bits = 0;
        for (first, symbols) in &code.0 {
            bits = bits << 1 | self.bits(1)?;
            if let Some(symbol) = bits.checked_sub(*first).and_then(|place| symbols.get(place)) {
                return Ok(*symbol);
            }
        }
        Err(Malformed)
    }
}

/// For each number of bits, from one on: the first that are a symbol's, and all symbols that have so many, in order.
struct Code(Vec<(usize, Vec<usize>)>);

impl Code {
    fn new(lengths: &[u8]) -> Self {
        let mut next = 0;
        let of_length = |length| {
            let symbols: Vec<usize> =
                (0..lengths.len()).filter(|symbol| lengths[*symbol] == length).collect();
            let first = next;
            next = (next + symbols.len()) << 1;
            (first, symbols)
        };
        Self((1..=15).map(of_length).collect())
    }

    /// Whether every sequence of bits is the beginning of one symbol's, and of no other's.
    fn check(&self, may_be_single: bool) -> Result<(), Refused> {
        let used: Vec<usize> = self.0.iter().map(|(_, symbols)| symbols.len()).collect();
        let taken: usize = used.iter().zip(1..).map(|(count, length)| count << (15 - length)).sum();
        let single = used.iter().sum::<usize>() == used[0] && used[0] <= 1;
        match taken.cmp(&(1 << 15)) {
            Ordering::Equal => Ok(()),
            Ordering::Greater => Err(Malformed),
            Ordering::Less if may_be_single && single => Ok(()),
            Ordering::Less => Err(IncompleteCode),
        }
    }
}
