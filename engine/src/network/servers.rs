//! The servers that are asked: who answers, how fast, and who is left alone for a while.

use std::time::Duration;

use mailproof_proto::dns::lookup::ServerTraits;
use mailproof_proto::limits::DNS_SERVERS_MAX;
use mailproof_proto::time::Timestamp;

/// What is known of one server.
#[derive(Clone, Debug, Default)]
pub(crate) struct ServerState {
    pub(crate) traits: ServerTraits,
    /// Smoothed time from query to reply, in milliseconds (the weights of RFC 6298 section 2).
    pub(crate) rtt_ms: Option<f32>,
    /// Tries in a row without any reply.
    pub(crate) silent_tries: u32,
    /// Until then others are asked first.
    pub(crate) avoided_until: Option<Timestamp>,
    pub(crate) has_answered: bool,
}

/// The servers in the order of preference for one lookup.
pub(crate) type Order = [u8; COUNT_MAX];

/// Servers that one lookup goes to.
pub(crate) const COUNT_MAX: usize = DNS_SERVERS_MAX;

/// Tries in a row without a reply after which a server is left alone.
const SILENT_TRIES_MAX: u32 = 4;
/// How long it is left alone at first; twice as long each time.
const AVOIDED_START: Duration = Duration::from_secs(1);
const AVOIDED_MAX: Duration = Duration::from_secs(60);
/// One lookup in as many begins with a server drawn by lot, so that a slow one that became fast is found.
const EXPLORATION: u64 = 32;

impl ServerState {
    /// It answered.
    pub(crate) fn note_reply(&mut self, took: Duration) {
        let took_ms = took.as_secs_f32() * 1000.0;
        self.rtt_ms = Some(self.rtt_ms.map_or(took_ms, |before| before + (took_ms - before) / 8.0));
        (self.silent_tries, self.avoided_until, self.has_answered) = (0, None, true);
    }

    /// It did not answer in the time of a try.
    pub(crate) fn note_silence(&mut self, now: Timestamp) {
        self.silent_tries = self.silent_tries.saturating_add(1);
        if self.silent_tries >= SILENT_TRIES_MAX {
            let doublings = (self.silent_tries / SILENT_TRIES_MAX - 1).min(16);
            self.avoided_until = Some(now + (AVOIDED_START * (1 << doublings)).min(AVOIDED_MAX));
        }
    }

    fn is_avoided(&self, now: Timestamp) -> bool {
        self.avoided_until.is_some_and(|until| now < until)
    }
}

/// Who is asked first, second and so on; `lot` is a random number.
pub(crate) fn order<'a>(servers: impl Iterator<Item = &'a ServerState>, now: Timestamp, lot: u64) -> Order {
    let mut order: Order = std::array::from_fn(|index| index as u8);
    let mut keys = [(false, 0); COUNT_MAX];
    let mut count = 0;
    for (key, server) in keys.iter_mut().zip(servers) {
        // One that was never asked comes first: somebody has to find out.
        *key = (server.is_avoided(now), server.rtt_ms.map_or(0, |rtt| rtt as u32));
        count += 1;
    }
    if count < 2 {
        return order;
    }
    order[..count].sort_by_key(|&index| keys[usize::from(index)]);
    if lot.is_multiple_of(EXPLORATION) {
        let chosen = (lot / EXPLORATION) as usize % count;
        let (is_avoided, _) = keys[usize::from(order[chosen])];
        if !is_avoided {
            order[..=chosen].rotate_right(1);
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_000);

    #[test]
    fn the_fast_come_first_and_the_silent_last() {
        let mut servers = vec![ServerState::default(); 3];
        servers[0].note_reply(Duration::from_millis(30));
        servers[1].note_reply(Duration::from_millis(5));
        servers[2].note_reply(Duration::from_millis(90));
        assert_eq!(order(servers.iter(), NOW, 1)[..3], [1, 0, 2]);
        for _ in 0..SILENT_TRIES_MAX - 1 {
            servers[1].note_silence(NOW);
        }
        assert_eq!(order(servers.iter(), NOW, 1)[..3], [1, 0, 2], "a lost datagram or two are no reason");
        servers[1].note_silence(NOW);
        assert_eq!(order(servers.iter(), NOW, 1)[..3], [0, 2, 1]);
        assert_eq!(order(servers.iter(), NOW + AVOIDED_START, 1)[..3], [1, 0, 2]);
        servers[1].note_silence(NOW);
        servers[1].note_reply(Duration::from_millis(5));
        assert_eq!(order(servers.iter(), NOW, 1)[..3], [1, 0, 2]);
    }

    #[test]
    fn silence_is_avoided_for_longer_and_longer_up_to_a_bound() {
        let mut server = ServerState::default();
        let spans: Vec<Duration> = (0..SILENT_TRIES_MAX * 10)
            .filter_map(|_| {
                server.note_silence(NOW);
                server.avoided_until.map(|until| Duration::from_millis(until.milliseconds() - NOW.milliseconds()))
            })
            .collect();
        assert!(spans.is_sorted());
        assert_eq!((spans.first(), spans.last()), (Some(&AVOIDED_START), Some(&AVOIDED_MAX)));
    }

    #[test]
    fn some_lookups_try_their_luck_elsewhere() {
        let mut servers = vec![ServerState::default(); 2];
        servers[0].note_reply(Duration::from_millis(1));
        servers[1].note_reply(Duration::from_millis(9));
        let elsewhere = (0..6_400).filter(|&lot| order(servers.iter(), NOW, lot)[0] == 1).count();
        assert_eq!(elsewhere, 100);
    }
}
