//! Numbers that nobody can foresee, for query IDs, letter cases and ports (RFC 5452 section 9.2).

/// A stream of random numbers.
#[derive(Debug)]
pub(crate) enum Seeds {
    /// From the system's generator, some hundred at a time.
    System { room: Box<[u8; ROOM_BYTES]>, used: usize },
    /// From a seed: the same stream every time, for simulations.
    #[cfg(any(test, feature = "simulation"))]
    Fixed(mailproof_proto::dns::lookup::Random),
}

const ROOM_BYTES: usize = 4096;

impl Seeds {
    pub(crate) fn system() -> Self {
        Self::System { room: Box::new([0; ROOM_BYTES]), used: ROOM_BYTES }
    }

    pub(crate) fn next(&mut self) -> u64 {
        match self {
            Self::System { room, used } => {
                if *used == ROOM_BYTES {
                    // Without random numbers every answer could be forged: there is no going on.
                    assert!(aws_lc_rs::rand::fill(&mut room[..]).is_ok(), "the system gives no random numbers");
                    *used = 0;
                }
                let number = room[*used..].first_chunk().map_or(0, |octets| u64::from_ne_bytes(*octets));
                *used += size_of::<u64>();
                number
            }
            #[cfg(any(test, feature = "simulation"))]
            Self::Fixed(random) => random.next_u64(),
        }
    }
}
