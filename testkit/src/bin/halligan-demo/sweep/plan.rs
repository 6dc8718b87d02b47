//! What is killed when, drawn from one seed: the same seed gives the same plan, whatever came of it the last time.

use std::fmt;

/// What people do in a round, in order. Each can be struck.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    File,
    FirstApproval,
    SecondApproval,
    Activation,
    Shell,
    Exec,
    Transfer,
    Extend,
    FirstExtension,
    SecondExtension,
    Extended,
    End,
    Cut,
    Proof,
    Recordings,
    Mitigate,
    Review,
    Changes,
    Close,
    Export,
}

pub const STEPS: [Step; 20] = [
    Step::File,
    Step::FirstApproval,
    Step::SecondApproval,
    Step::Activation,
    Step::Shell,
    Step::Exec,
    Step::Transfer,
    Step::Extend,
    Step::FirstExtension,
    Step::SecondExtension,
    Step::Extended,
    Step::End,
    Step::Cut,
    Step::Proof,
    Step::Recordings,
    Step::Mitigate,
    Step::Review,
    Step::Changes,
    Step::Close,
    Step::Export,
];

impl Step {
    /// How long it takes when nothing happens, in milliseconds: a blow "during" it falls within.
    const fn usual(self) -> u64 {
        match self {
            Self::Activation | Self::Extended => 120,
            Self::Shell => 600,
            Self::Exec => 900,
            Self::Transfer => 500,
            Self::Proof => 4500,
            Self::End | Self::Cut | Self::Recordings => 300,
            Self::Export => 250,
            _ => 40,
        }
    }
}

/// A process of the layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Control,
    Gateway,
    Connector,
}

const VICTIMS: [&[Role]; 7] = [
    &[Role::Control],
    &[Role::Gateway],
    &[Role::Connector],
    &[Role::Control, Role::Gateway],
    &[Role::Control, Role::Connector],
    &[Role::Gateway, Role::Connector],
    &[Role::Control, Role::Gateway, Role::Connector],
];

/// Where in a step a blow falls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    Before,
    /// Milliseconds after the step has begun.
    During(u64),
    After,
}

/// One `kill -9` of one or several processes, and their start some time later.
#[derive(Clone, Copy, Debug)]
pub struct Blow {
    pub step: Step,
    pub moment: Moment,
    pub victims: &'static [Role],
    /// Milliseconds until they are started again.
    pub down: u64,
}

impl fmt::Display for Blow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let when = match self.moment {
            Moment::Before => "before".to_owned(),
            Moment::During(after) => format!("{after} ms into"),
            Moment::After => "after".to_owned(),
        };
        let who: Vec<String> = self.victims.iter().map(|role| format!("{role:?}").to_lowercase()).collect();
        write!(f, "{} {when} {:?}, down {} ms", who.join("+"), self.step, self.down)
    }
}

/// How the access of a round ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    GivenBack,
    Deadline,
    Revoked,
    Mitigated,
}

/// One round.
#[derive(Clone, Debug)]
pub struct Round {
    pub number: u64,
    pub end: End,
    pub blows: Vec<Blow>,
}

impl Round {
    /// The access is to the database, not to a host.
    pub const fn is_database(&self) -> bool {
        self.number.is_multiple_of(3)
    }
}

/// Blows in a round.
const BLOWS: usize = 5;

/// All rounds of a seed: each step is struck equally often, and in each of its cards (moment and victims) once before any
/// comes again.
pub fn rounds(seed: u64, count: u64) -> Vec<Round> {
    let mut random = Random(seed);
    let mut cards: Vec<Vec<(u8, usize)>> = vec![Vec::new(); STEPS.len()];
    let mut order: Vec<usize> = Vec::new();
    let mut ends: Vec<End> = Vec::new();
    let mut rounds = Vec::new();
    for number in 1..=count {
        let end = match ends.pop() {
            Some(end) => end,
            None => {
                ends = vec![End::GivenBack, End::Deadline, End::Revoked, End::Mitigated];
                random.shuffle(&mut ends);
                ends.pop().unwrap_or(End::GivenBack)
            }
        };
        let mut chosen = Vec::new();
        while chosen.len() < BLOWS {
            let step = match order.pop() {
                Some(step) => step,
                None => {
                    order = (0..STEPS.len()).collect();
                    random.shuffle(&mut order);
                    continue;
                }
            };
            if !chosen.contains(&step) {
                chosen.push(step);
            }
        }
        chosen.sort_unstable();
        let mut blows = Vec::new();
        for index in chosen {
            let (Some(step), Some(deck)) = (STEPS.get(index), cards.get_mut(index)) else { continue };
            if deck.is_empty() {
                *deck = (0..3).flat_map(|moment| (0..VICTIMS.len()).map(move |who| (moment, who))).collect();
                random.shuffle(deck);
            }
            let (moment, who) = deck.pop().unwrap_or((0, 0));
            let moment = match moment {
                0 => Moment::Before,
                1 => Moment::During(random.below(step.usual() + 1)),
                _ => Moment::After,
            };
            // Mostly short, as a supervisor would do it; now and then long enough for others to notice.
            let down = if random.below(5) == 0 { 1000 + random.below(2500) } else { random.below(400) };
            blows.push(Blow { step: *step, moment, victims: VICTIMS.get(who).unwrap_or(&VICTIMS[0]), down });
        }
        rounds.push(Round { number, end, blows });
    }
    rounds
}

/// SplitMix64 (Steele, Lea, Flood 2014).
pub struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    /// Less than `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }
    fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = usize::try_from(self.below(last as u64 + 1)).unwrap_or(0);
            items.swap(last, other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_one_plan_and_longer_runs_begin_alike() {
        let (short, long) = (rounds(7, 5), rounds(7, 50));
        assert_eq!(format!("{short:?}"), format!("{:?}", &long[..5]));
        assert_ne!(format!("{short:?}"), format!("{:?}", rounds(8, 5)));
    }

    #[test]
    fn every_step_is_struck_in_every_way() {
        let all = rounds(1, (STEPS.len() * 21 / BLOWS) as u64);
        for step in STEPS {
            let blows: Vec<_> =
                all.iter().flat_map(|round| &round.blows).filter(|b| b.step == step).collect();
            assert_eq!(blows.len(), 21, "{step:?}");
            for victims in VICTIMS {
                let of = blows.iter().filter(|blow| blow.victims == victims);
                assert_eq!(of.count(), 3, "{step:?} {victims:?}");
            }
        }
    }
}
