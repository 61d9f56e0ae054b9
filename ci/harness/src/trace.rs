//! Names and source lines for the addresses in back-traces, which the nodes print as bare numbers: the nodes carry no symbols.

use addr2line::Loader;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The name under which the kernel's addresses are known.
const KERNEL: &str = "kernel";
/// The root task's own.
const ROOT: &str = "root";
/// Addresses explained of one back-trace.
const MAX_FRAMES: usize = 32;

/// Which program runs where, to explain its addresses.
#[derive(Clone, Debug, Default)]
pub struct Programs(BTreeMap<String, PathBuf>);

impl Programs {
    /// Tells the ELF of a server, by the server's name; the kernel and the root task are `kernel` and `root`.
    pub fn add(&mut self, name: &str, elf: PathBuf) {
        self.0.insert(name.to_owned(), elf);
    }

    /// The addresses as `function (file:line)`, one line each, with inlined functions; empty for an unknown program.
    fn explain(&self, name: &str, addresses: &[u64]) -> Vec<String> {
        let Some(loader) = self.0.get(name).and_then(|elf| Loader::new(elf).ok()) else { return Vec::new() };
        // A return address is the instruction after the call; what matters is the call.
        addresses.iter().take(MAX_FRAMES).flat_map(|address| frames(&loader, address.saturating_sub(4))).collect()
    }
}

/// The functions that an address is in, innermost first.
fn frames(loader: &Loader, address: u64) -> Vec<String> {
    let mut lines = Vec::new();
    if let Ok(mut frames) = loader.find_frames(address) {
        while let Ok(Some(frame)) = frames.next() {
            let name =
                frame.function.as_ref().and_then(|function| function.demangle().ok().map(|name| name.into_owned()));
            let place = frame.location.and_then(|place| Some(format!(" ({}:{})", place.file?, place.line?)));
            lines.push(format!("    {}{}", name.unwrap_or_else(|| "?".into()), place.unwrap_or_default()));
        }
    }
    if lines.is_empty() {
        let symbol = loader.find_symbol(address).map(|name| addr2line::demangle_auto(name.into(), None).into_owned());
        lines.push(format!("    {}", symbol.unwrap_or_else(|| format!("{address:#x}, in no known function"))));
    }
    lines
}

/// Watches the plain text of one node for back-traces.
#[derive(Clone, Debug, Default)]
pub struct Explainer {
    /// The server whose failure the root task reported last.
    failed: Option<String>,
}

impl Explainer {
    /// Lines to put after `text` if it is a back-trace of a known program.
    pub fn explain(&mut self, programs: &Programs, text: &str) -> Vec<String> {
        if let Some((name, _)) = text.strip_prefix("root: `").and_then(|rest| rest.split_once("` failed")) {
            self.failed = Some(name.to_owned());
        }
        let (name, list) = if let Some(list) = text.strip_prefix("called from:") {
            (KERNEL.to_owned(), list)
        } else if let Some((name, list)) = text.split_once(":   back-trace:") {
            // What the root task prints is the trace of the server that failed, unless it is its own end.
            let of = if name == ROOT { self.failed.take().unwrap_or_else(|| ROOT.into()) } else { name.to_owned() };
            (of, list)
        } else {
            return Vec::new();
        };
        let mut addresses: Vec<u64> =
            list.split_whitespace().filter_map(|word| u64::from_str_radix(word.strip_prefix("0x")?, 16).ok()).collect();
        // The end of the chain of frames.
        addresses.retain(|address| *address != 0);
        programs.explain(&name, &addresses)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Programs that are all this test itself.
    fn programs(names: &[&str]) -> Programs {
        let mut programs = Programs::default();
        names.iter().for_each(|name| programs.add(name, std::env::current_exe().unwrap()));
        programs
    }

    /// An address in this test's own file, as linked.
    #[inline(never)]
    fn known_address() -> u64 {
        use object::{Object, ObjectSymbol};
        let bytes = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let file = object::File::parse(&*bytes).unwrap();
        let symbol = file.symbols().find(|symbol| symbol.name().is_ok_and(|name| name.contains("known_address")));
        symbol.unwrap().address() + 8
    }

    #[test]
    fn kernel_and_servers_are_told_apart() {
        let address = known_address();
        let mut explainer = Explainer::default();
        let trace = |kind: &str| format!("{kind} {address:#x} 0x0");
        let named = |lines: &[String]| lines.iter().any(|line| line.contains("known_address"));
        assert!(named(&explainer.explain(&programs(&["kernel"]), &trace("called from:"))));
        assert!(explainer.explain(&programs(&["block"]), &trace("called from:")).is_empty());
        assert!(named(&explainer.explain(&programs(&["block"]), &trace("block:   back-trace:"))));
        // The root task reports for another.
        assert!(explainer.explain(&programs(&["net"]), "root: `net` failed at 0x1: read: not mapped").is_empty());
        assert!(named(&explainer.explain(&programs(&["net"]), &trace("root:   back-trace:"))));
        assert!(named(&explainer.explain(&programs(&["root"]), &trace("root:   back-trace:"))));
    }

    #[test]
    fn other_text_is_left_alone() {
        let mut explainer = Explainer::default();
        assert!(explainer.explain(&programs(&["kernel"]), "kernel: 0x1234 bytes free").is_empty());
        assert!(explainer.explain(&Programs::default(), "called from: 0x1").is_empty());
    }
}
