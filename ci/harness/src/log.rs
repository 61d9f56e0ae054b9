//! What the nodes say: serial lines decoded with the servers' symbols, kept for waits and reports, printed in colour.

use crate::serial::{Framer, Item, salvage};
use crate::trace::{Explainer, Programs};
use anyhow::{Context, Result};
use defmt_decoder::Table;
use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// Lines kept in memory; older ones are only in the capture files.
const MAX_KEPT: usize = 100_000;

/// How serious a line is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Level {
    /// Details.
    Debug,
    /// What goes on; plain text counts as this.
    Info,
    /// Something unusual that is dealt with.
    Warn,
    /// Something that failed.
    Error,
}

/// One decoded line of a node.
#[derive(Clone, Debug)]
pub struct Line {
    /// Which node said it.
    pub node: u16,
    /// When the host read it, since the start of the run.
    pub at: Duration,
    /// The server that wrote it; empty for plain text.
    pub source: String,
    /// Its level.
    pub level: Level,
    /// The node's own time stamp, if the source gives one.
    pub stamp: Option<String>,
    /// The message.
    pub text: String,
}

/// What is needed to read the consoles of an image: the servers' log symbols by source id, and all programs' addresses.
#[derive(Default)]
pub struct Symbols {
    sources: BTreeMap<u8, (String, Option<Table>)>,
    /// Explains back-traces.
    pub programs: Programs,
}

impl Symbols {
    /// Reads the symbols of one server's ELF. A server without log symbols is fine; its frames are shown undecoded.
    pub fn add(&mut self, source: u8, name: &str, elf: &Path) -> Result<()> {
        let bytes = std::fs::read(elf).with_context(|| elf.display().to_string())?;
        let table = Table::parse(&bytes).with_context(|| format!("log symbols of {}", elf.display()))?;
        self.sources.insert(source, (name.to_owned(), table));
        self.programs.add(name, elf.to_owned());
        Ok(())
    }

    /// The name and the table of a source.
    fn of(&self, source: u8) -> (String, Option<&Table>) {
        match self.sources.get(&source) {
            Some((name, table)) => (name.clone(), table.as_ref()),
            None => (format!("source {source}"), None),
        }
    }
}

/// Decodes one node's serial line.
pub struct Decoder {
    framer: Framer,
    symbols: Arc<Symbols>,
    node: u16,
    explainer: Explainer,
}

impl Decoder {
    /// A decoder for the line of `node`, running an image with these symbols.
    pub fn new(node: u16, symbols: Arc<Symbols>) -> Decoder {
        Decoder { framer: Framer::default(), symbols, node, explainer: Explainer::default() }
    }

    /// Takes the next bytes of the line, read at `at`; the lines they complete are returned.
    pub fn push(&mut self, bytes: &[u8], at: Duration) -> Vec<Line> {
        let mut items = Vec::new();
        self.framer.push(bytes, &mut items);
        self.lines(items, at)
    }

    /// The serial line has ended.
    pub fn finish(&mut self, at: Duration) -> Vec<Line> {
        let mut items = Vec::new();
        self.framer.finish(&mut items);
        self.lines(items, at)
    }

    fn lines(&mut self, items: Vec<Item>, at: Duration) -> Vec<Line> {
        let mut lines = Vec::new();
        for item in items {
            match item {
                Item::Frame { source, bytes } => self.frame(source, &bytes, at, &mut lines),
                other => {
                    let line = self.plain(other, at);
                    let names = self.explainer.explain(&self.symbols.programs, &line.text);
                    let explained = names.into_iter().map(|text| Line { text, ..line.clone() }).collect::<Vec<_>>();
                    lines.push(line);
                    lines.extend(explained);
                }
            }
        }
        lines
    }

    fn plain(&self, item: Item, at: Duration) -> Line {
        let (level, text) = match item {
            Item::Text(text) => (if is_alarm(&text) { Level::Error } else { Level::Info }, text),
            Item::Lost(bytes) => (Level::Warn, format!("({bytes} bytes of the serial line make no sense)")),
            Item::Frame { source, bytes } => (Level::Warn, format!("(frame of source {source}: {bytes:02x?})")),
        };
        Line { node: self.node, at, source: String::new(), level, stamp: None, text }
    }

    fn frame(&self, source: u8, bytes: &[u8], at: Duration, lines: &mut Vec<Line>) {
        let (name, table) = self.symbols.of(source);
        let decoded = rzcobs::decode(bytes).ok();
        if let (Some(table), Some(raw)) = (table, &decoded)
            && let Ok((frame, _)) = table.decode(raw)
        {
            let stamp = frame.display_timestamp().map(|stamp| stamp.to_string());
            let level = level_of(frame.level().map(|level| level.as_str()));
            let text = frame.display_message().to_string();
            lines.push(Line { node: self.node, at, source: name, level, stamp, text });
            return;
        }
        if table.is_none() && decoded.is_some() {
            lines.push(Line { source: name, ..self.plain(Item::Frame { source, bytes: bytes.to_vec() }, at) });
            return;
        }
        // A damaged frame, or text that was taken for one.
        let mut salvaged = Vec::new();
        salvage(bytes, &mut salvaged);
        lines.extend(salvaged.into_iter().map(|item| self.plain(item, at)));
    }
}

fn level_of(name: Option<&str>) -> Level {
    match name {
        Some("error") => Level::Error,
        Some("warn") => Level::Warn,
        Some("trace" | "debug") => Level::Debug,
        _ => Level::Info,
    }
}

/// Plain text that reports something bad: a panic or a fault.
fn is_alarm(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    ["panic", "fault", "refused"].iter().any(|word| lower.contains(word))
}

/// All lines of a run, with waiting. Shared by the nodes' readers, the scenarios and the printer.
#[derive(Clone)]
pub struct Log(Arc<(Mutex<Kept>, Condvar)>);

struct Kept {
    start: Instant,
    lines: VecDeque<Line>,
    /// Lines that were dropped from the front: the number of `lines[0]`.
    first: u64,
    print: Option<Printer>,
}

/// A place in a [`Log`]: only later lines are looked at. The default is the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Mark(u64);

impl Default for Log {
    fn default() -> Log {
        let kept = Kept { start: Instant::now(), lines: VecDeque::new(), first: 0, print: None };
        Log(Arc::new((Mutex::new(kept), Condvar::new())))
    }
}

impl Log {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Prints every line from now on.
    pub fn print(&self, printer: Printer) {
        self.kept().print = Some(printer);
    }

    /// Time since the start of the run.
    pub fn elapsed(&self) -> Duration {
        self.kept().start.elapsed()
    }

    /// Adds decoded lines.
    pub fn add(&self, lines: Vec<Line>) {
        if lines.is_empty() {
            return;
        }
        let mut kept = self.kept();
        for line in lines {
            if let Some(printer) = &kept.print {
                printer.print(&line);
            }
            kept.lines.push_back(line);
            if kept.lines.len() > MAX_KEPT {
                kept.lines.pop_front();
                kept.first += 1;
            }
        }
        self.0.1.notify_all();
    }

    /// The present end of the log.
    pub fn mark(&self) -> Mark {
        let kept = self.kept();
        Mark(kept.first + kept.lines.len() as u64)
    }

    /// The lines after `mark` for which `wanted` holds.
    pub fn since(&self, mark: Mark, mut wanted: impl FnMut(&Line) -> bool) -> Vec<Line> {
        let kept = self.kept();
        let skip = mark.0.saturating_sub(kept.first) as usize;
        kept.lines.iter().skip(skip).filter(|line| wanted(line)).cloned().collect()
    }

    /// Waits for a line after `mark` for which `wanted` holds, at most for `limit`.
    pub fn wait(&self, mark: Mark, limit: Duration, mut wanted: impl FnMut(&Line) -> bool) -> Option<Line> {
        let deadline = Instant::now() + limit;
        let mut next = mark.0;
        let mut kept = self.kept();
        loop {
            let skip = next.saturating_sub(kept.first) as usize;
            if let Some(line) = kept.lines.iter().skip(skip).find(|line| wanted(line)) {
                return Some(line.clone());
            }
            next = kept.first + kept.lines.len() as u64;
            let left = deadline.checked_duration_since(Instant::now())?;
            kept = self.0.1.wait_timeout(kept, left).unwrap_or_else(|poisoned| poisoned.into_inner()).0;
        }
    }
}

/// How lines look on a terminal.
#[derive(Clone, Copy, Debug)]
pub struct Printer {
    /// Use colours: one per node, levels by brightness.
    pub colour: bool,
    /// Lines below this level are not shown.
    pub least: Level,
}

impl Printer {
    /// A printer for standard output: in colour if that is a terminal.
    pub fn for_stdout(least: Level) -> Printer {
        use std::io::IsTerminal;
        Printer { colour: std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none(), least }
    }

    /// Prints a line to standard output unless it is below the least level.
    pub fn print(&self, line: &Line) {
        if line.level >= self.least {
            use std::io::Write;
            // A closed pipe must not end the cluster in the middle of a run.
            let _ = writeln!(std::io::stdout(), "{}", self.format(line));
        }
    }

    /// The line as it is printed.
    pub fn format(&self, line: &Line) -> String {
        let stamp = line.stamp.as_deref().map(|stamp| format!(" [{stamp}]")).unwrap_or_default();
        let source = if line.source.is_empty() { "-" } else { &line.source };
        let level = match line.level {
            Level::Error => " ERROR",
            Level::Warn => " WARN",
            Level::Info | Level::Debug => "",
        };
        let head = format!("node {} {:>8.3}{stamp} {source}{level}:", line.node, line.at.as_secs_f64());
        if !self.colour {
            return format!("{head} {}", line.text);
        }
        let node = 31 + [1, 3, 4, 5, 2][line.node as usize % 5];
        let text = match line.level {
            Level::Error => "1;31",
            Level::Warn => "33",
            Level::Info => "0",
            Level::Debug => "2",
        };
        format!("\x1b[{node}m{head}\x1b[0m \x1b[{text}m{}\x1b[0m", line.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;
    use object::write::{Object, StandardSection, StandardSegment, Symbol, SymbolSection};
    use object::{Architecture, BinaryFormat, Endianness, SectionKind, SymbolFlags, SymbolKind, SymbolScope};

    /// An ELF with the log symbols that `defmt` leaves: its version, its encoding, and one message at address 1.
    fn elf_with_symbols() -> Vec<u8> {
        let mut elf = Object::new(BinaryFormat::Elf, Architecture::Aarch64, Endianness::Little);
        let section =
            elf.add_section(elf.segment_name(StandardSegment::Data).to_vec(), b".defmt".to_vec(), SectionKind::Data);
        elf.append_section_data(section, &[0; 16], 1);
        let text = elf.section_id(StandardSection::Text);
        elf.append_section_data(text, &[0; 4], 4);
        let message =
            r#"{"package":"p","tag":"defmt_warn","data":"answer {=u8}","disambiguator":"1","crate_name":"p"}"#;
        for (name, value) in [("_defmt_version_ = 4", 0), ("_defmt_encoding_ = rzcobs", 0), (message, 1)] {
            elf.add_symbol(Symbol {
                name: name.as_bytes().to_vec(),
                value,
                size: 1,
                kind: SymbolKind::Data,
                scope: SymbolScope::Linkage,
                weak: false,
                section: SymbolSection::Section(section),
                flags: SymbolFlags::None,
            });
        }
        elf.write().unwrap()
    }

    fn decoder() -> Decoder {
        let table = Table::parse(&elf_with_symbols()).unwrap();
        assert!(table.is_some());
        let sources = BTreeMap::from([(3, ("block".to_owned(), table))]);
        Decoder::new(2, Arc::new(Symbols { sources, programs: Programs::default() }))
    }

    fn framed(source: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, 0xfe, source];
        bytes.extend(rzcobs::encode(payload));
        bytes.push(0);
        bytes
    }

    #[test]
    fn frames_are_decoded_with_their_servers_symbols() {
        let mut bytes = b"plain\n".to_vec();
        bytes.extend(framed(3, &[1, 0, 42]));
        bytes.extend(framed(7, &[1, 0, 42]));
        let lines = decoder().push(&bytes, Duration::ZERO);
        assert_eq!(lines[0].text, "plain");
        assert_eq!(
            (lines[1].source.as_str(), lines[1].level, lines[1].text.as_str()),
            ("block", Level::Warn, "answer 42")
        );
        assert_eq!(lines[2].source, "source 7");
    }

    #[test]
    fn damaged_frames_never_panic_the_decoder() {
        let mut rng = Rng::new(5);
        for _ in 0..5000 {
            let mut bytes = framed(3, &[1, 0, 42]);
            for _ in 0..rng.below(4) {
                let at = rng.below(bytes.len() as u64) as usize;
                bytes[at] = rng.draw() as u8;
            }
            bytes.extend(framed(3, &[1, 0, 7]));
            bytes.extend(framed(3, &[1, 0, 8]));
            let mut decoder = decoder_with_cache();
            let lines = decoder.push(&bytes, Duration::ZERO);
            assert_eq!(lines.last().unwrap().text, "answer 8", "{bytes:02x?}");
        }
    }

    /// As [`decoder`], with the table parsed once.
    fn decoder_with_cache() -> Decoder {
        static SYMBOLS: std::sync::OnceLock<Arc<Symbols>> = std::sync::OnceLock::new();
        Decoder::new(1, SYMBOLS.get_or_init(|| decoder().symbols).clone())
    }

    #[test]
    fn waits_see_later_lines_only_and_end() {
        let log = Log::default();
        let line = |text: &str| Line {
            node: 1,
            at: Duration::ZERO,
            source: String::new(),
            level: Level::Info,
            stamp: None,
            text: text.into(),
        };
        log.add(vec![line("ready")]);
        let mark = log.mark();
        assert!(log.wait(mark, Duration::from_millis(20), |l| l.text == "ready").is_none());
        let later = log.clone();
        let thread = std::thread::spawn(move || later.add(vec![line("ready")]));
        assert!(log.wait(mark, Duration::from_secs(10), |l| l.text == "ready").is_some());
        thread.join().unwrap();
        assert_eq!(log.since(mark, |_| true).len(), 1);
    }
}
