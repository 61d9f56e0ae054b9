//! The manifest as people write it.

use crate::diagnostic::{BuildError, Diagnostic, line_of};
use root::manifest::{
    Channel, Device, MAX_SERVERS, Manifest, ManifestError, ROOT, ROOT_INDEX, Restart, Server, Service, Start,
};
use serde::Deserialize;
use std::ops::Range;
use std::path::Path;
use toml::Spanned;

/// "Every other server" as the client of a channel.
const EVERYBODY: &str = "*";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    server: Vec<ServerTable>,
    #[serde(default)]
    channel: Vec<ChannelTable>,
    #[serde(default)]
    service: Vec<ServiceTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ServerTable {
    name: Spanned<String>,
    program: Option<String>,
    priority: u8,
    heap: Option<Spanned<Size>>,
    stack: Option<Spanned<Size>>,
    replies: Option<u16>,
    slots: Option<u16>,
    counter: Option<bool>,
    device: Option<Spanned<String>>,
    optional: Option<bool>,
    dma: Option<Spanned<Size>>,
    start: Option<Spanned<String>>,
    restart: Option<Spanned<String>>,
    budget_us: Option<u64>,
    period_us: Option<u64>,
    args: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChannelTable {
    client: Spanned<Clients>,
    server: Spanned<String>,
    ring: Option<Spanned<Size>>,
    buffer: Option<Spanned<Size>>,
    arg: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ServiceTable {
    name: Spanned<String>,
    server: Spanned<String>,
    degree: u8,
    #[serde(default)]
    port: u16,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Clients {
    One(String),
    Many(Vec<String>),
}

/// A number of bytes, or text such as `64K` or `1M`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Size {
    Bytes(u64),
    Text(String),
}

impl Size {
    fn bytes(&self) -> Option<u64> {
        match self {
            Size::Bytes(bytes) => Some(*bytes),
            Size::Text(text) => {
                let (digits, shift) = match text.char_indices().last()? {
                    (end, 'K') => (&text[..end], 10),
                    (end, 'M') => (&text[..end], 20),
                    _ => (text.as_str(), 0),
                };
                digits.parse::<u64>().ok()?.checked_mul(1 << shift)
            }
        }
    }
}

/// A manifest, and where its parts are written.
#[derive(Clone, Debug)]
pub struct Source {
    /// The checked manifest.
    pub manifest: Manifest,
    /// Line of each server's name.
    pub server_lines: Vec<usize>,
}

/// Reads and checks a manifest's text; `file` is for messages.
pub fn parse(file: &Path, text: &str) -> Result<Source, BuildError> {
    let table: File = toml::from_str(text).map_err(|error| {
        let line = error.span().map_or(0, |span| line_of(text, span.start));
        BuildError(vec![Diagnostic { file: file.to_owned(), line, message: error.message().to_owned() }])
    })?;
    let mut reader = Reader { file, text, errors: Vec::new() };
    let (manifest, channel_lines) = reader.manifest(&table);
    let server_lines: Vec<usize> = table.server.iter().map(|s| line_of(text, s.name.span().start)).collect();
    let service_lines: Vec<usize> = table.service.iter().map(|s| line_of(text, s.name.span().start)).collect();
    if reader.errors.is_empty()
        && let Err(error) = manifest.check()
    {
        let lines = Lines { servers: &server_lines, channels: &channel_lines, services: &service_lines };
        reader.errors.push(lines.diagnostic(file, &manifest, &error));
    }
    if reader.errors.is_empty() { Ok(Source { manifest, server_lines }) } else { Err(BuildError(reader.errors)) }
}

/// Turns tables into the binary manifest, collecting every mistake on the way.
struct Reader<'a> {
    file: &'a Path,
    text: &'a str,
    errors: Vec<Diagnostic>,
}

impl Reader<'_> {
    fn error(&mut self, span: Range<usize>, message: String) {
        let line = line_of(self.text, span.start);
        self.errors.push(Diagnostic { file: self.file.to_owned(), line, message });
    }

    fn manifest(&mut self, table: &File) -> (Manifest, Vec<usize>) {
        let servers: Vec<Server> = table.server.iter().map(|s| self.server(s)).collect();
        let mut manifest = Manifest { servers, ..Manifest::default() };
        let mut lines = Vec::new();
        for channel in &table.channel {
            for channel in self.channels(&manifest, channel) {
                lines.push(line_of(self.text, channel.1));
                manifest.channels.push(channel.0);
            }
        }
        for service in &table.service {
            let server = self.find(&manifest, service.server.get_ref(), service.server.span());
            let name = service.name.get_ref().clone();
            manifest.services.push(Service { name, server, degree: service.degree, port: service.port });
        }
        (manifest, lines)
    }

    fn server(&mut self, table: &ServerTable) -> Server {
        let period_us = table.period_us.or(table.budget_us).unwrap_or(5000);
        let name = table.name.get_ref().clone();
        Server {
            program: table.program.clone().unwrap_or_else(|| name.clone()),
            name,
            priority: table.priority,
            heap: self.size(&table.heap, 64 << 10),
            stack: self.size(&table.stack, 64 << 10),
            replies: table.replies.unwrap_or(16),
            slots: table.slots.unwrap_or(128),
            counter: table.counter.unwrap_or(true),
            start: self.word(&table.start, &[("boot", Start::Boot), ("on-demand", Start::OnDemand)]),
            restart: self.word(&table.restart, &[("always", Restart::Always), ("never", Restart::Never)]),
            budget_us: table.budget_us.unwrap_or(period_us),
            period_us,
            device: self.device(&table.device),
            optional: table.optional.unwrap_or(false),
            dma: self.size(&table.dma, 0),
            args: table.args.clone().unwrap_or_default(),
        }
    }

    /// The channels of one table, with the byte offset of where the client is written.
    fn channels(&mut self, manifest: &Manifest, table: &ChannelTable) -> Vec<(Channel, usize)> {
        let server = self.find(manifest, table.server.get_ref(), table.server.span());
        let span = table.client.span();
        let clients: Vec<u16> = match table.client.get_ref() {
            Clients::One(name) if name == EVERYBODY => {
                (0..manifest.servers.len().min(MAX_SERVERS) as u16).filter(|i| *i != server).collect()
            }
            Clients::One(name) => vec![self.find(manifest, name, span.clone())],
            Clients::Many(names) => names.iter().map(|name| self.find(manifest, name, span.clone())).collect(),
        };
        let (ring, buffer) = (self.size(&table.ring, 0), self.size(&table.buffer, 0));
        let arg = table.arg.clone().unwrap_or_default();
        clients
            .into_iter()
            .map(|client| (Channel { client, server, ring, buffer, arg: arg.clone() }, span.start))
            .collect()
    }

    fn find(&mut self, manifest: &Manifest, name: &str, span: Range<usize>) -> u16 {
        if name == ROOT {
            return ROOT_INDEX;
        }
        match manifest.find(name) {
            Some(index) => index as u16,
            None => {
                self.error(span, format!("there is no server called `{name}`"));
                0
            }
        }
    }

    fn size(&mut self, size: &Option<Spanned<Size>>, default: u64) -> u64 {
        let Some(size) = size else { return default };
        let bytes = size.get_ref().bytes();
        if bytes.is_none_or(|b| !b.is_multiple_of(4096)) {
            self.error(size.span(), "not a size: write a multiple of 4096 as number, or as `64K`, `1M`".to_owned());
        }
        bytes.unwrap_or(default)
    }

    fn word<T: Copy>(&mut self, word: &Option<Spanned<String>>, choices: &[(&str, T)]) -> T {
        let Some(word) = word else { return choices[0].1 };
        if let Some(choice) = choices.iter().find(|c| c.0 == word.get_ref()) {
            return choice.1;
        }
        let names: Vec<String> = choices.iter().map(|c| format!("`{}`", c.0)).collect();
        self.error(word.span(), format!("`{}` is not one of {}", word.get_ref(), names.join(", ")));
        choices[0].1
    }

    fn device(&mut self, name: &Option<Spanned<String>>) -> Option<Device> {
        let name = name.as_ref()?;
        let device = Device::parse(name.get_ref());
        if device.is_none() {
            let message = format!(
                "unknown device `{}`: there are `virtio-net#n`, `virtio-blk#n`, `pl011` and `phys-timer`",
                name.get_ref()
            );
            self.error(name.span(), message);
        }
        device
    }
}

struct Lines<'a> {
    servers: &'a [usize],
    channels: &'a [usize],
    services: &'a [usize],
}

impl Lines<'_> {
    /// The binary form's check, told with names and lines.
    fn diagnostic(&self, file: &Path, manifest: &Manifest, error: &ManifestError) -> Diagnostic {
        let (line, message) = match error {
            ManifestError::Malformed | ManifestError::ServerCount => (0, error.to_string()),
            ManifestError::Server(i, what) => {
                (self.servers[*i], format!("server `{}`: {what}", manifest.servers[*i].name))
            }
            ManifestError::Channel(i, what) => {
                let channel = &manifest.channels[*i];
                let (client, server) = (manifest.name_of(channel.client), manifest.name_of(channel.server));
                (self.channels[*i], format!("channel from `{client}` to `{server}`: {what}"))
            }
            ManifestError::Service(i, what) => {
                (self.services[*i], format!("service `{}`: {what}", manifest.services[*i].name))
            }
        };
        Diagnostic { file: file.to_owned(), line, message }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
[[server]]
name = "timer"
priority = 250
device = "phys-timer"

[[server]]
name = "file"
program = "smi-file"
priority = 140
heap = "4M"

[[server]]
name = "db"
priority = 100
start = "on-demand"

[[channel]]
client = "*"
server = "timer"

[[channel]]
client = "db"
server = "file"
ring = "8K"
buffer = 65536
arg = "x"

[[channel]]
client = ["file", "db"]
server = "root"

[[service]]
name = "db"
server = "db"
degree = 2
port = 6379
"#;

    fn read(text: &str) -> Result<Source, String> {
        parse(Path::new("node.toml"), text).map_err(|e| e.to_string())
    }

    #[test]
    fn a_manifest_is_read() {
        let manifest = read(GOOD).unwrap().manifest;
        let names: Vec<_> = manifest.servers.iter().map(|s| (s.name.as_str(), s.program.as_str())).collect();
        assert_eq!(names, [("timer", "timer"), ("file", "smi-file"), ("db", "db")]);
        assert_eq!(manifest.servers[0].device, Some(Device::PhysTimer));
        assert_eq!((manifest.servers[1].heap, manifest.servers[1].stack), (4 << 20, 64 << 10));
        assert_eq!(manifest.servers[2].start, Start::OnDemand);
        let ends: Vec<_> = manifest.channels.iter().map(|c| (c.client, c.server, c.ring, c.buffer)).collect();
        let want = [(1, 0, 0, 0), (2, 0, 0, 0), (2, 1, 8192, 65536), (1, ROOT_INDEX, 0, 0), (2, ROOT_INDEX, 0, 0)];
        assert_eq!(ends, want);
        assert_eq!(manifest.services[0].port, 6379);
    }

    /// The message for `GOOD` with one text replaced by another.
    fn refused(from: &str, to: &str) -> String {
        assert!(GOOD.contains(from), "{from}");
        read(&GOOD.replacen(from, to, 1)).unwrap_err()
    }

    #[test]
    fn mistakes_are_told_with_file_and_line() {
        assert_eq!(refused("server = \"file\"", "server = \"fiel\""), "node.toml:24: there is no server called `fiel`");
        assert!(refused("client = \"db\"", "client = \"bd\"").starts_with("node.toml:23: there is no server"));
        assert!(refused("phys-timer", "gpu#1").starts_with("node.toml:5: unknown device `gpu#1`"));
        assert!(refused("\"4M\"", "\"4X\"").starts_with("node.toml:11: not a size"));
        assert!(refused("\"8K\"", "100").starts_with("node.toml:25: not a size"));
        assert!(refused("on-demand", "later").starts_with("node.toml:16: `later` is not one of `boot`"));
        let again = refused("[[service]]", "[[server]]\nname = \"timer\"\npriority = 1\n\n[[service]]");
        assert!(again.starts_with("node.toml:34: server `timer`: another server has the same name"), "{again}");
        let itself = refused("client = \"db\"", "client = \"file\"");
        assert!(
            itself.starts_with("node.toml:23: channel from `file` to `file`: it joins a server to itself"),
            "{itself}"
        );
        let twice = refused("client = [\"file\", \"db\"]\nserver = \"root\"", "client = \"file\"\nserver = \"db\"");
        assert!(twice.contains("there is already a channel"), "{twice}");
        assert!(refused("priority = 140", "priority = 254").starts_with("node.toml:8: server `file`: priority"));
        assert!(refused("heap =", "haep =").contains("unknown field `haep`"));
        assert!(refused("server = \"db\"\ndegree", "server = \"timer\"\ndegree").contains("not started on demand"));
        assert!(refused("priority = 100", "").contains("missing field `priority`"));
    }

    #[test]
    fn several_mistakes_are_told_at_once() {
        let text = GOOD.replacen("phys-timer", "gpu", 1).replacen("\"4M\"", "1", 1);
        assert_eq!(parse(Path::new("x"), &text).unwrap_err().0.len(), 2);
    }
}
