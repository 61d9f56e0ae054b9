//! What happens to frames on the way from one port to another: the network faults of a scenario.

use crate::rng::Rng;
use std::collections::BTreeMap;
use std::time::Duration;

/// A port of a switch: 0 is the host's TAP, n is node n.
pub type Port = u16;

/// The treatment of frames from one port to another, in that direction only.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Rule {
    /// Nothing passes.
    pub cut: bool,
    /// Percentage of frames that are lost.
    pub drop_percent: f64,
    /// Percentage of frames that arrive twice.
    pub duplicate_percent: f64,
    /// Percentage of frames that later frames may overtake.
    pub reorder_percent: f64,
    /// Every frame is late by this.
    pub delay: Duration,
    /// And by up to this more, evenly distributed (which reorders as well).
    pub jitter: Duration,
}

/// How long a frame that was chosen for reordering is held back, at most.
const REORDER_SPAN: Duration = Duration::from_millis(20);

/// The copies of one frame that arrive, each with its delay: none, one or two.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Fate {
    copies: [Option<Duration>; 2],
}

impl Fate {
    /// The delays of the copies that arrive.
    pub fn copies(&self) -> impl Iterator<Item = Duration> + '_ {
        self.copies.iter().flatten().copied()
    }
}

impl Rule {
    /// Draws what happens to one frame.
    pub fn fate(&self, rng: &mut Rng) -> Fate {
        if self.cut || rng.percent(self.drop_percent) {
            return Fate::default();
        }
        let first = Some(self.draw_delay(rng));
        let second = rng.percent(self.duplicate_percent).then(|| self.draw_delay(rng));
        Fate { copies: [first, second] }
    }

    fn draw_delay(&self, rng: &mut Rng) -> Duration {
        let mut delay = self.delay;
        if !self.jitter.is_zero() {
            delay += Duration::from_nanos(rng.below(self.jitter.as_nanos() as u64 + 1));
        }
        if rng.percent(self.reorder_percent) {
            delay += Duration::from_nanos(rng.below(REORDER_SPAN.as_nanos() as u64));
        }
        delay
    }
}

/// The rules of one switch: a default and exceptions by direction.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    default: Rule,
    links: BTreeMap<(Port, Port), Rule>,
}

impl Rules {
    /// The rule from one port to another.
    pub fn of(&self, from: Port, to: Port) -> Rule {
        self.links.get(&(from, to)).copied().unwrap_or(self.default)
    }

    /// Changes the rule of every link that has no rule of its own, now and later.
    pub fn set_default(&mut self, rule: Rule) {
        self.default = rule;
    }

    /// Sets the rule of one direction.
    pub fn set(&mut self, from: Port, to: Port, rule: Rule) {
        self.links.insert((from, to), rule);
    }

    /// Cuts (or heals) both directions between two ports, keeping their other faults.
    pub fn set_cut(&mut self, a: Port, b: Port, cut: bool) {
        for (from, to) in [(a, b), (b, a)] {
            self.set(from, to, Rule { cut, ..self.of(from, to) });
        }
    }

    /// Separates `side` from all `others`, in both directions.
    pub fn partition(&mut self, side: &[Port], others: &[Port]) {
        for a in side {
            for b in others.iter().filter(|b| !side.contains(b)) {
                self.set_cut(*a, *b, true);
            }
        }
    }

    /// A perfect network again.
    pub fn clear(&mut self) {
        *self = Rules::default();
    }
}
