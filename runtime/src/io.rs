//! From ids to sockets, and the two calls that move bytes.

use std::io::{ErrorKind, IoSlice, Read, Result, Write};

use keepwatch_protocol::driver::Io;
use keepwatch_protocol::{Blocks, ConnectionId, Slices};

/// What a runtime keeps for each connection, found by its id.
#[derive(Debug)]
pub struct Table<T> {
    slots: Blocks<Option<(ConnectionId, T)>>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { slots: Blocks::new() }
    }
}

impl<T> Table<T> {
    /// Bytes for each connection.
    pub const ENTRY: usize = size_of::<Option<(ConnectionId, T)>>();

    /// Keeps it, in place of what may still be in the slot.
    pub fn insert(&mut self, id: ConnectionId, kept: T) {
        if self.slots.len() <= id.slot() {
            self.slots.resize_with(id.slot() + 1, || None);
        }
        self.slots[id.slot()] = Some((id, kept));
    }

    /// What was kept for the connection; `None` if it is gone, whoever has its slot now.
    pub fn get_mut(&mut self, id: ConnectionId) -> Option<&mut T> {
        let (owner, kept) = self.slots.get_mut(id.slot())?.as_mut()?;
        (*owner == id).then_some(kept)
    }

    /// Takes out what was kept for the connection.
    pub fn remove(&mut self, id: ConnectionId) -> Option<T> {
        let slot = self.slots.get_mut(id.slot())?;
        slot.take_if(|(owner, _)| *owner == id).map(|(_, kept)| kept)
    }

    /// Who has the slot now.
    pub fn owner(&self, slot: usize) -> Option<ConnectionId> {
        self.slots.get(slot)?.as_ref().map(|(owner, _)| *owner)
    }
}

/// Reads once from a socket that does not block.
pub fn read(mut socket: impl Read, into: &mut [u8]) -> Io {
    done(|| socket.read(into))
}

/// Writes the parts once to a socket that does not block: one with `send`, which is cheaper, several with `writev`.
pub fn write(mut socket: impl Write, parts: &[&[u8]]) -> Io {
    let result = if let [part] = parts {
        done(|| socket.write(part))
    } else {
        let mut slices = [IoSlice::new(&[]); Slices::PARTS];
        let count = parts.len().min(slices.len());
        for (slice, part) in slices.iter_mut().zip(parts) {
            *slice = IoSlice::new(part);
        }
        done(|| socket.write_vectored(&slices[..count]))
    };
    // A socket that takes nothing, and does not say that it is full, would be asked for ever.
    if result == Io::Done(0) && !parts.is_empty() { Io::Failed } else { result }
}

fn done(mut call: impl FnMut() -> Result<usize>) -> Io {
    loop {
        return match call() {
            Ok(count) => Io::Done(count),
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) if error.kind() == ErrorKind::WouldBlock => Io::Blocked,
            Err(_) => Io::Failed,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Script(Vec<Result<usize>>);

    impl Write for Script {
        fn write(&mut self, _bytes: &[u8]) -> Result<usize> {
            self.0.pop().unwrap()
        }

        fn flush(&mut self) -> Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_interrupted_call_is_made_again() {
        let mut script = Script(vec![Ok(3), Err(ErrorKind::Interrupted.into())]);
        assert_eq!(write(&mut script, &[b"abcd"]), Io::Done(3));
    }

    #[test]
    fn what_blocks_is_told_from_what_fails() {
        assert_eq!(write(Script(vec![Err(ErrorKind::WouldBlock.into())]), &[b"a"]), Io::Blocked);
        assert_eq!(write(Script(vec![Err(ErrorKind::BrokenPipe.into())]), &[b"a"]), Io::Failed);
        assert_eq!(write(Script(vec![Ok(0)]), &[b"a"]), Io::Failed);
    }

    #[test]
    fn parts_are_written_in_order() {
        let mut written = Vec::new();
        assert_eq!(write(&mut written, &[b"ab", b"c", b"def"]), Io::Done(6));
        assert_eq!(written, b"abcdef");
    }

    #[test]
    fn an_id_finds_only_its_own() {
        let mut table = Table::default();
        let (old, new) = (ConnectionId::new(2, 0), ConnectionId::new(2, 1));
        table.insert(old, 'a');
        assert_eq!(table.get_mut(old), Some(&mut 'a'));
        assert_eq!(table.get_mut(new), None);
        table.insert(new, 'b');
        assert_eq!(table.remove(old), None);
        assert_eq!((table.owner(2), table.owner(0), table.owner(9)), (Some(new), None, None));
        assert_eq!(table.remove(new), Some('b'));
        assert_eq!(table.owner(2), None);
    }
}
