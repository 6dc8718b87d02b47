//! Who may connect, and how many may be there who have not said yet who they are.
//!
//! Strangers shut nobody out by filling the room: when it is full, who waits longest of the network that has most in it is
//! asked out for who comes next. Networks are single addresses of IPv4, and /64 of IPv6, where one machine has as many
//! addresses as it likes.

use std::cmp::Reverse;
use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// How many may be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnteroomLimits {
    /// Connections at one time, those of people who are in included.
    pub most_connections: usize,
    /// Of these, not logged in.
    pub most_waiting: usize,
    /// Of these, from one network.
    pub most_waiting_per_network: usize,
}

/// Everybody who is connected to one listener.
#[derive(Debug)]
pub struct Anteroom {
    limits: AnteroomLimits,
    counts: Arc<Mutex<Counts>>,
}

#[derive(Debug, Default)]
struct Counts {
    connections: usize,
    /// By network, in the order in which they came.
    waiting: HashMap<IpAddr, VecDeque<(u64, Arc<Notify>)>>,
    next: u64,
}

/// A place among the connections; given back when dropped.
#[derive(Debug)]
pub struct Admitted {
    counts: Arc<Mutex<Counts>>,
}

/// A place among those who are not logged in; given back when dropped.
#[derive(Debug)]
pub struct Waiting {
    counts: Arc<Mutex<Counts>>,
    network: IpAddr,
    number: u64,
    asked_out: Arc<Notify>,
}

impl Anteroom {
    /// An empty one.
    pub fn new(limits: AnteroomLimits) -> Self {
        Self { limits, counts: Arc::default() }
    }

    /// Somebody connects. None when all connections are taken.
    pub fn admit(&self, address: IpAddr) -> Option<(Admitted, Waiting)> {
        let network = network(address);
        let mut counts = lock(&self.counts);
        if counts.connections >= self.limits.most_connections {
            return None;
        }
        let AnteroomLimits { most_waiting, most_waiting_per_network, .. } = self.limits;
        if counts.waiting.get(&network).is_some_and(|there| there.len() >= most_waiting_per_network) {
            counts.ask_out(network);
        } else if counts.waiting.values().map(VecDeque::len).sum::<usize>() >= most_waiting {
            let greediest = counts.greediest(network).unwrap_or(network);
            counts.ask_out(greediest);
        }
        counts.connections += 1;
        counts.next += 1;
        let (number, asked_out) = (counts.next, Arc::new(Notify::new()));
        counts.waiting.entry(network).or_default().push_back((number, Arc::clone(&asked_out)));
        let admitted = Admitted { counts: Arc::clone(&self.counts) };
        Some((admitted, Waiting { counts: Arc::clone(&self.counts), network, number, asked_out }))
    }
}

impl Waiting {
    /// Resolves when another needs the place: who has not logged in by then leaves.
    pub fn asked_out(&self) -> impl Future<Output = ()> + Send + 'static {
        let asked_out = Arc::clone(&self.asked_out);
        async move { asked_out.notified().await }
    }
}

impl Counts {
    /// The network that has most in it with one more from `comes`; of several `comes` itself, or where somebody has waited
    /// longest.
    fn greediest(&self, comes: IpAddr) -> Option<IpAddr> {
        let there = self.waiting.iter().map(|(network, there)| {
            let longest = there.front().map(|(number, _)| *number);
            let own = *network == comes;
            (there.len() + usize::from(own), own, Reverse(longest), *network)
        });
        there.max().map(|(_, _, _, network)| network)
    }

    /// The one of a network who has waited longest.
    fn ask_out(&mut self, network: IpAddr) {
        let Some(there) = self.waiting.get_mut(&network) else { return };
        if let Some((_, asked_out)) = there.pop_front() {
            asked_out.notify_one();
        }
        if there.is_empty() {
            self.waiting.remove(&network);
        }
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut counts = lock(&self.counts);
        counts.connections = counts.connections.saturating_sub(1);
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut counts = lock(&self.counts);
        let Some(there) = counts.waiting.get_mut(&self.network) else { return };
        there.retain(|(number, _)| *number != self.number);
        if there.is_empty() {
            counts.waiting.remove(&self.network);
        }
    }
}

/// What one machine can have all addresses of: itself, or its /64.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 => v4,
    }
}

fn lock(counts: &Mutex<Counts>) -> MutexGuard<'_, Counts> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    const LIMITS: AnteroomLimits =
        AnteroomLimits { most_connections: 100, most_waiting: 6, most_waiting_per_network: 4 };

    fn out(waiting: &(Admitted, Waiting)) -> bool {
        pin!(waiting.1.asked_out()).poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    fn at(address: &str) -> IpAddr {
        address.parse().unwrap()
    }

    #[test]
    fn a_network_that_has_its_share_gives_its_own_places() {
        let room = Anteroom::new(LIMITS);
        let first: Vec<_> = (0..4).map(|_| room.admit(at("192.0.2.1")).unwrap()).collect();
        let other = room.admit(at("192.0.2.2")).unwrap();
        let _fifth = room.admit(at("192.0.2.1")).unwrap();
        assert_eq!(first.iter().map(out).collect::<Vec<_>>(), [true, false, false, false]);
        assert!(!out(&other));
    }

    #[test]
    fn a_full_room_has_a_place_for_who_comes_from_elsewhere() {
        let room = Anteroom::new(LIMITS);
        let greedy: Vec<_> = (0..4).map(|_| room.admit(at("192.0.2.1")).unwrap()).collect();
        let two: Vec<_> = (0..2).map(|_| room.admit(at("192.0.2.2")).unwrap()).collect();
        let others: Vec<_> = (3..6).map(|one| room.admit(at(&format!("192.0.2.{one}"))).unwrap()).collect();
        let asked: Vec<_> = greedy.iter().chain(&two).chain(&others).map(out).collect();
        let [kept, left] = [false, true];
        // The third finds two networks with two each: of these, the first has waited longer.
        assert_eq!(asked, [left, left, left, kept, kept, kept, kept, kept, kept]);
        // Where everybody has as many, who comes for more pays for it.
        let again = room.admit(at("192.0.2.5")).unwrap();
        assert_eq!(others.iter().map(out).collect::<Vec<_>>(), [kept, kept, left]);
        assert!(!out(&again) && !two.iter().any(out));
        assert_eq!(lock(&room.counts).waiting.values().map(VecDeque::len).sum::<usize>(), 6);
    }

    #[test]
    fn one_machine_has_one_network_however_many_addresses() {
        let room = Anteroom::new(LIMITS);
        let all: Vec<_> = (0..9).map(|one| room.admit(at(&format!("2001:db8::{one}"))).unwrap()).collect();
        assert_eq!(all.iter().filter(|one| out(one)).count(), 5);
        let elsewhere = room.admit(at("2001:db8:0:1::1")).unwrap();
        let mapped: Vec<_> = ["192.0.2.1", "::ffff:192.0.2.1"].map(|one| room.admit(at(one)).unwrap()).into();
        assert!(!out(&elsewhere) && !mapped.iter().any(out));
        assert_eq!(lock(&room.counts).waiting[&at("192.0.2.1")].len(), 2);
    }

    #[test]
    fn places_are_given_back() {
        let room = Anteroom::new(AnteroomLimits { most_connections: 2, ..LIMITS });
        let (one, two) = (room.admit(at("::1")).unwrap(), room.admit(at("::1")).unwrap());
        assert!(room.admit(at("::1")).is_none());
        let (admitted, waiting) = one;
        drop(waiting);
        assert!(room.admit(at("::1")).is_none(), "it is still connected");
        drop((admitted, two));
        assert!(room.admit(at("::1")).is_some());
        assert!(lock(&room.counts).waiting.is_empty());
    }
}
