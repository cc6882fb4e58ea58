//! Who is let in: at most so many connections at once, and so many of one address, on all machines that share a store.
//!
//! Both counts are kept at the two ends of a connection's life, and nowhere between.
//!
//! When few places are left, whoever comes costs an idle connection its place: one of the same machine, or else of another
//! that has some. That one is asked, and woken; if all of them were used in the meantime, it asks the next.
//!
//! ```text
//!   machine that somebody came to ── ask_others ─► the machine that shows the most idle ones, minus those it is asked for
//!                                                     │ woken: wanted
//!                                                     ├─► closes its longest idle ones
//!                                                     └─► cannot: ask_others, with one try less
//! ```

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Waker;

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
    machines: Mutex<Vec<Arc<Machine>>>,
}

/// What the machines of a process know of one of them, and ask of it. They are figures, and guard nothing.
#[derive(Debug, Default)]
struct Machine {
    waker: OnceLock<Waker>,
    /// Its connections that are idle, or were: some may be in use again, or closed.
    idle: AtomicUsize,
    /// How many places it is asked for,
    wanted: AtomicUsize,
    /// and how many machines may be asked after it for those that it cannot make.
    tries: AtomicUsize,
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
        let (connections, addresses, machines) = (AtomicUsize::new(0), Mutex::default(), Mutex::default());
        Self(Arc::new(Counted { limit, limit_of_address, connections, addresses, machines }))
    }

    /// Of one machine, which has none yet.
    pub(crate) fn guests(&self) -> Guests {
        let machine = Arc::<Machine>::default();
        self.machines().push(Arc::clone(&machine));
        Guests { admissions: self.clone(), machine, count: 0, addresses: BTreeMap::new() }
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

    fn machines(&self) -> MutexGuard<'_, Vec<Arc<Machine>>> {
        self.0.machines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The connections of one machine. Dropped, it gives up their places.
#[derive(Debug)]
pub(crate) struct Guests {
    admissions: Admissions,
    machine: Arc<Machine>,
    count: usize,
    /// By slot, those whose address counts.
    addresses: BTreeMap<usize, IpAddr>,
}

impl Guests {
    /// This waker tells the machine to look at what is [wanted](Self::wanted).
    pub(crate) fn start(&self, waker: &Waker) {
        // A machine is started once.
        let _started = self.machine.waker.set(waker.clone());
    }

    /// Where the machine shows how many are idle.
    pub(crate) fn idle(&self) -> IdleShown {
        IdleShown(Arc::clone(&self.machine))
    }

    /// Places are needed, and this machine has nobody idle: another that has is asked for them, and woken. Up to `tries`
    /// machines are asked, one after the other.
    pub(crate) fn ask_others(&self, places: usize, tries: usize) {
        let machines = self.admissions.machines();
        let tries = tries.min(machines.len().saturating_sub(1));
        let others = machines.iter().filter(|machine| !Arc::ptr_eq(machine, &self.machine));
        let other = others.max_by_key(|other| other.may_be_idle()).filter(|other| other.may_be_idle() > 0);
        let Some(other) = other.filter(|_| tries > 0).cloned() else { return };
        // Woken without the lock: a waker may do anything.
        drop(machines);
        other.tries.fetch_max(tries - 1, Ordering::Relaxed);
        let is_woken = other.wanted.fetch_add(places, Ordering::Release) > 0;
        if let Some(waker) = other.waker.get().filter(|_| !is_woken) {
            waker.wake_by_ref();
        }
    }

    /// How many places others need of this machine, and how many more may be asked for those that it cannot make.
    pub(crate) fn wanted(&self) -> Option<(usize, usize)> {
        // It is woken for much else.
        if self.machine.wanted.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let places = self.machine.wanted.swap(0, Ordering::Acquire);
        Some((places, self.machine.tries.swap(0, Ordering::Relaxed)))
    }

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

impl Machine {
    /// How many may be idle that it is not asked for already.
    fn may_be_idle(&self) -> usize {
        self.idle.load(Ordering::Relaxed).saturating_sub(self.wanted.load(Ordering::Relaxed))
    }
}

/// Where others see how many of a machine's connections are idle.
#[derive(Debug)]
pub(crate) struct IdleShown(Arc<Machine>);

impl IdleShown {
    pub(crate) fn set(&self, idle: usize) {
        self.0.idle.store(idle, Ordering::Relaxed);
    }
}

impl Drop for Guests {
    fn drop(&mut self) {
        self.admissions.machines().retain(|machine| !Arc::ptr_eq(machine, &self.machine));
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
    use std::task::Wake;

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

    /// The machines of a process that is crowded, and how often each was woken.
    fn machines<const COUNT: usize>(idle: [usize; COUNT]) -> ([Guests; COUNT], [Arc<Woken>; COUNT]) {
        let door = Admissions::new(1, 1);
        let woken = [(); COUNT].map(|()| Arc::<Woken>::default());
        let guests = woken.each_ref().map(|woken| {
            let guests = door.guests();
            guests.start(&Waker::from(Arc::clone(woken)));
            guests
        });
        guests.iter().zip(idle).for_each(|(guests, idle)| guests.idle().set(idle));
        (guests, woken)
    }

    #[derive(Debug, Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn the_machine_that_shows_the_most_idle_ones_is_asked_and_woken_once() {
        let (guests, woken) = machines([9, 1, 3, 0]);
        guests[0].ask_others(1, usize::MAX);
        guests[0].ask_others(1, usize::MAX);
        assert_eq!(guests[2].wanted(), Some((2, 2)));
        assert_eq!(guests[2].wanted(), None);
        assert_eq!(woken.map(|woken| woken.0.load(Ordering::Relaxed)), [0, 0, 1, 0]);
    }

    #[test]
    fn no_machine_is_asked_for_more_than_it_has() {
        let (guests, _woken) = machines([9, 1, 3]);
        (0..10).for_each(|_| guests[0].ask_others(1, usize::MAX));
        assert_eq!([0, 1, 2].map(|index| guests[index].wanted()), [None, Some((1, 1)), Some((3, 1))]);
    }

    #[test]
    fn asking_ends() {
        let (guests, _woken) = machines([5, 5, 5, 5]);
        guests[0].ask_others(1, usize::MAX);
        let mut asked = vec![];
        while let Some((index, (places, tries))) =
            guests.iter().enumerate().find_map(|(index, guests)| Some((index, guests.wanted()?)))
        {
            asked.push(index);
            guests[index].ask_others(places, tries);
        }
        assert_eq!(asked.len(), 3, "{asked:?}");
    }

    #[test]
    fn a_machine_alone_or_one_that_is_gone_is_not_asked() {
        let (guests, woken) = machines([5, 5]);
        let [one, other] = guests;
        drop(other);
        one.ask_others(1, usize::MAX);
        assert_eq!(one.wanted(), None);
        assert_eq!(woken.map(|woken| woken.0.load(Ordering::Relaxed)), [0, 0]);
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
