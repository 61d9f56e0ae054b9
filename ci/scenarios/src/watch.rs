//! The status lines of the nodes' managers (`word key=value ...`): what the cluster says about itself. A scenario uses them to
//! time what it cannot see from outside; what clients see is never taken from here.

use harness::log::{Line, Log, Mark};
use std::time::Duration;

/// The server whose lines count.
const MANAGER: &str = "manager";

/// A status line, taken apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Status<'a> {
    /// Its first word.
    pub word: &'a str,
    rest: &'a str,
}

impl<'a> Status<'a> {
    /// Takes a manager's line apart.
    pub fn of(line: &'a Line) -> Option<Status<'a>> {
        (line.source == MANAGER).then(|| Status::parse(&line.text))
    }

    fn parse(text: &'a str) -> Status<'a> {
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        Status { word, rest }
    }

    /// The value of a key.
    pub fn value(&self, key: &str) -> Option<&'a str> {
        self.rest.split(' ').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='))
    }

    /// The value of a key that is a number.
    pub fn number(&self, key: &str) -> Option<u64> {
        self.value(key)?.parse().ok()
    }
}

/// Waits until one of `nodes` reports `word` with these values; returns when, since the start of the run.
pub fn wait_for(
    log: &Log,
    mark: Mark,
    nodes: &[u16],
    limit: Duration,
    word: &str,
    values: &[(&str, u64)],
) -> Option<Duration> {
    let wanted = |line: &Line| {
        nodes.contains(&line.node)
            && Status::of(line).is_some_and(|status| {
                status.word == word && values.iter().all(|(key, value)| status.number(key) == Some(*value))
            })
    };
    log.wait(mark, limit, wanted).map(|line| line.at)
}

/// The node that started a service's program last, as far as `log` tells.
pub fn service_node(log: &Log, program: &str) -> Option<u16> {
    let started = |line: &Line| {
        Status::of(line)
            .is_some_and(|status| status.word == "service-started" && status.value("program") == Some(program))
    };
    log.since(Mark::default(), started).last().map(|line| line.node)
}

/// Whether all groups have all their replicas, as far as the last lines of `nodes` tell.
pub fn is_redundant(log: &Log, nodes: &[u16]) -> bool {
    nodes.iter().all(|node| {
        let told = |line: &Line| {
            line.node == *node && Status::of(line).is_some_and(|status| status.word.starts_with("redundancy-"))
        };
        log.since(Mark::default(), told).last().is_none_or(|line| line.text.starts_with("redundancy-restored"))
    })
}

/// Waits until [`is_redundant`]; says whether it came about within `limit`.
pub fn wait_redundant(log: &Log, nodes: &[u16], limit: Duration) -> bool {
    let end = log.elapsed() + limit;
    while !is_redundant(log, nodes) {
        if log.elapsed() >= end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use harness::log::Level;

    fn line(node: u16, text: &str) -> Line {
        let (source, text) = (MANAGER.to_owned(), text.to_owned());
        Line { node, at: Duration::from_millis(7), source, level: Level::Info, stamp: None, text }
    }

    #[test]
    fn values_belong_to_whole_keys() {
        let line = line(1, "node-down node=2 epoch=61");
        let status = Status::of(&line).unwrap();
        assert_eq!((status.word, status.number("node"), status.number("epoch")), ("node-down", Some(2), Some(61)));
        assert_eq!((status.value("poch"), status.number("ode")), (None, None));
        assert_eq!(Status::parse("fenced").word, "fenced");
    }

    #[test]
    fn redundancy_is_what_was_said_last() {
        let log = Log::default();
        assert!(is_redundant(&log, &[1, 2]));
        log.add(vec![line(1, "redundancy-restored groups=2"), line(2, "redundancy-lost groups=1")]);
        assert!(is_redundant(&log, &[1]) && !is_redundant(&log, &[1, 2]));
        log.add(vec![line(2, "redundancy-restored groups=2")]);
        assert!(is_redundant(&log, &[1, 2]));
    }

    #[test]
    fn events_are_found_by_word_node_and_values() {
        let log = Log::default();
        let mark = log.mark();
        log.add(vec![line(1, "node-down node=2 epoch=61"), line(3, "service-started program=db")]);
        let wait = |nodes: &[u16], node| wait_for(&log, mark, nodes, Duration::ZERO, "node-down", &[("node", node)]);
        assert!(wait(&[1, 3], 2).is_some());
        assert!(wait(&[3], 2).is_none() && wait(&[1], 3).is_none());
        assert_eq!(service_node(&log, "db"), Some(3));
        assert_eq!(service_node(&log, "web"), None);
    }
}
