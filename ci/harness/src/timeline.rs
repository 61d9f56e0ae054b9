//! The narration of a scenario: what happened when, in plain words, on the terminal and in the figures' file.

use std::time::{Duration, Instant};

/// One event.
#[derive(Clone, Debug)]
pub struct Event {
    /// When, since the start of the scenario.
    pub at: Duration,
    /// What, in a sentence.
    pub text: String,
}

/// A scenario's events, printed as they come.
#[derive(Debug)]
pub struct Timeline {
    start: Instant,
    events: Vec<Event>,
    colour: bool,
}

impl Default for Timeline {
    fn default() -> Timeline {
        Timeline::new()
    }
}

impl Timeline {
    /// A timeline that starts now.
    pub fn new() -> Timeline {
        use std::io::IsTerminal;
        let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Timeline { start: Instant::now(), events: Vec::new(), colour }
    }

    /// Time since the start.
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Something happens now.
    pub fn say(&mut self, text: impl Into<String>) {
        let at = self.elapsed();
        self.say_at(at, text);
    }

    /// Something happened at `at` (and became known only now).
    pub fn say_at(&mut self, at: Duration, text: impl Into<String>) {
        let text = text.into();
        let (bold, plain) = if self.colour { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
        println!("{bold}{:>9.3} s{plain}  {text}", at.as_secs_f64());
        self.events.push(Event { at, text });
    }

    /// Detail that belongs to the last event: what an unmodified tool printed, for example.
    pub fn detail(&self, text: &str) {
        for line in text.lines() {
            println!("             | {line}");
        }
    }

    /// What happened so far.
    pub fn events(&self) -> &[Event] {
        &self.events
    }
}
