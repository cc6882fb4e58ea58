//! Which transport is next: what is liked best of those that are not put aside.

use keepwatch_protocol::Instant;

use super::config::ClientConfig;
use super::event::Transport;

#[derive(Debug)]
pub(super) struct Routes {
    /// As in [`ClientConfig::transports`].
    all: Vec<Route>,
    current: usize,
    /// What the user was told last.
    told: Option<Transport>,
}

#[derive(Debug)]
struct Route {
    transport: Transport,
    /// How often in a row it was cut off before its first event.
    strikes: u8,
    /// It is put aside until then.
    until: Instant,
}

impl Routes {
    pub(super) fn new(transports: &[Transport]) -> Self {
        let last_resort = [Transport::ShortPoll];
        let transports = if transports.is_empty() { &last_resort } else { transports };
        let route =
            |transport: &Transport| Route { transport: *transport, strikes: 0, until: Instant::START };
        Self { all: transports.iter().map(route).collect(), current: 0, told: None }
    }

    /// The transport for what is asked for next, and whether it is another than before.
    pub(super) fn choose(&mut self, now: Instant) -> (Transport, bool) {
        self.current = self.first_open(now);
        let transport = self.transport(self.current);
        let another = self.told != Some(transport);
        self.told = Some(transport);
        (transport, another)
    }

    /// What would be chosen now.
    pub(super) fn next(&self, now: Instant) -> Transport {
        self.transport(self.first_open(now))
    }

    fn first_open(&self, now: Instant) -> usize {
        let open = self.all.iter().position(|route| route.until <= now);
        open.unwrap_or(self.all.len().saturating_sub(1))
    }

    fn transport(&self, index: usize) -> Transport {
        self.all.get(index).map_or(Transport::ShortPoll, |route| route.transport)
    }

    /// It works.
    pub(super) fn good(&mut self) {
        if let Some(route) = self.all.get_mut(self.current) {
            route.strikes = 0;
        }
    }

    /// It was cut off before its first event.
    pub(super) fn strike(&mut self, config: &ClientConfig, now: Instant) {
        let Some(route) = self.all.get_mut(self.current) else { return };
        route.strikes = route.strikes.saturating_add(1);
        // It stays at the limit: when it is tried again, one more is enough.
        if route.strikes >= config.strikes {
            self.refused(config, now);
        }
    }

    /// It was refused. Returns whether there is another, and that is the next one.
    pub(super) fn refused(&mut self, config: &ClientConfig, now: Instant) -> bool {
        let last = self.current + 1 >= self.all.len();
        if let Some(route) = self.all.get_mut(self.current).filter(|_| !last) {
            route.until = now + config.aside;
        }
        // What is put aside for no time is the next one itself.
        !last && self.first_open(now) != self.current
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn config() -> ClientConfig {
        ClientConfig { aside: Duration::from_secs(1), strikes: 2, ..ClientConfig::default() }
    }

    fn routes() -> Routes {
        Routes::new(&[Transport::WebSocket, Transport::Lines, Transport::LongPoll])
    }

    const START: Instant = Instant::START;

    #[test]
    fn what_is_refused_is_put_aside_for_a_while() {
        let mut routes = routes();
        assert_eq!(routes.choose(START), (Transport::WebSocket, true));
        assert!(routes.refused(&config(), START));
        assert_eq!(routes.choose(START), (Transport::Lines, true));
        assert_eq!(routes.choose(Instant::from_millis(999)), (Transport::Lines, false));
        assert_eq!(routes.choose(Instant::from_millis(1000)), (Transport::WebSocket, true));
    }

    #[test]
    fn the_last_one_is_never_put_aside() {
        let mut routes = routes();
        for left in [true, true, false, false] {
            routes.choose(START);
            assert_eq!(routes.refused(&config(), START), left);
        }
        assert_eq!(routes.choose(START), (Transport::LongPoll, false));
    }

    #[test]
    fn strikes_in_a_row_are_a_refusal_and_one_more_is_after_that() {
        let mut routes = routes();
        routes.choose(START);
        routes.strike(&config(), START);
        routes.good();
        routes.strike(&config(), START);
        assert_eq!(routes.choose(START), (Transport::WebSocket, false));
        routes.strike(&config(), START);
        assert_eq!(routes.choose(START), (Transport::Lines, true));
        let later = Instant::from_millis(1000);
        assert_eq!(routes.choose(later), (Transport::WebSocket, true));
        routes.strike(&config(), later);
        assert_eq!(routes.choose(later), (Transport::Lines, true));
    }

    #[test]
    fn without_any_there_are_short_polls() {
        assert_eq!(Routes::new(&[]).choose(START), (Transport::ShortPoll, true));
    }
}
