//! From a checked blob to a [`Board`]: one walk over all nodes that keeps, per open level, the bus properties needed to
//! turn a node's `reg` into physical addresses.

use crate::blob::MAX_DEPTH;
use crate::{Blob, Board, BoardError, Bootargs, Cpu, Gic, List, MAX_REDISTRIBUTORS, MAX_REGIONS};
use crate::{PsciMethod, Region, RegionSet, StartMethod, Uart, UartKind, VirtioMmio};
use fdt::helpers::UnalignedFallibleNode;
use fdt::nodes::AsNode;
use fdt::parsing::{NoPanic, unaligned::UnalignedParser};

type Node<'a> = UnalignedFallibleNode<'a>;
type Fdt<'a> = fdt::Fdt<'a, (UnalignedParser<'a>, NoPanic)>;

/// GIC interrupt id of the virtual timer by the architecture's base design, if the tree does not say otherwise.
const VIRTUAL_TIMER_IRQ: u32 = 27;

/// How addresses of a bus are written and what they mean one level up.
#[derive(Clone, Copy)]
struct Bus<'a> {
    address_cells: usize,
    size_cells: usize,
    /// `None`: no mapping to the parent. `Some(&[])`: identity. Else (child, parent, length) triplets.
    ranges: Option<&'a [u8]>,
}

/// The open nodes from the root (index 0) down to the current node's parent.
struct Path<'a> {
    buses: [Bus<'a>; MAX_DEPTH + 1],
    /// Kinds of the ancestors that give their children a meaning.
    roles: [Role; MAX_DEPTH + 1],
    /// How many components of the console's path the open nodes match.
    console_match: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Other,
    Cpus,
    ReservedMemory,
}

/// What has been found so far.
struct Found {
    memory: RegionSet<MAX_REGIONS>,
    reserved: RegionSet<MAX_REGIONS>,
    dropped_regions: u32,
    gic: Option<Gic>,
    virtual_timer_irq: u32,
    timer_hz: Option<u32>,
    uart: Option<Uart>,
    uart_is_chosen: bool,
    virtio: List<VirtioMmio, { crate::MAX_VIRTIO }>,
    psci: Option<PsciMethod>,
    cpus: List<Cpu, { crate::MAX_CPUS }>,
}

/// What `/chosen` and `/aliases` say.
struct Chosen<'a> {
    initrd: Option<Region>,
    bootargs: &'a str,
    /// Path of the console's node without the leading slash; empty if not given.
    console: &'a str,
}

/// Reads the whole description.
pub fn read<'a>(blob: &Blob<'a>) -> Result<Board<'a>, BoardError> {
    let fdt = Fdt::new_unaligned_fallible(blob.bytes()).map_err(|_| BoardError::Walk)?;
    let chosen = read_chosen(&fdt)?;
    let mut found = Found::new();
    for region in blob.reservations() {
        found.reserve(region);
    }
    walk(&fdt, chosen.console, &mut found)?;
    if found.memory.is_empty() {
        return Err(BoardError::NoMemory);
    }
    if found.cpus.is_empty() {
        return Err(BoardError::NoCpu);
    }
    Ok(Board {
        model: root_string(&fdt, "model"),
        memory: found.memory,
        reserved: found.reserved,
        dropped_regions: found.dropped_regions,
        gic: found.gic.ok_or(BoardError::NoInterruptController)?,
        virtual_timer_irq: found.virtual_timer_irq,
        timer_hz: found.timer_hz,
        uart: found.uart,
        virtio: found.virtio,
        psci: found.psci,
        initrd: chosen.initrd,
        bootargs: Bootargs(chosen.bootargs),
        cpus: found.cpus,
    })
}

/// Visits every node except the root, in tree order.
fn walk<'a>(fdt: &Fdt<'a>, console: &str, found: &mut Found) -> Result<(), BoardError> {
    let root: Node<'a> = fdt.root().map_err(|_| BoardError::Walk)?.as_node();
    let mut path = Path::new(bus_of(root));
    for item in fdt.all_nodes().map_err(|_| BoardError::Walk)? {
        let (depth, node) = item.map_err(|_| BoardError::Walk)?;
        if depth == 0 || depth > MAX_DEPTH {
            return Err(BoardError::Walk);
        }
        let is_console = path.enter(depth, node, console);
        visit(node, depth, &path, is_console, found)?;
    }
    Ok(())
}

/// Takes what is of interest from one node.
fn visit<'a>(
    node: Node<'a>,
    depth: usize,
    path: &Path<'a>,
    is_console: bool,
    found: &mut Found,
) -> Result<(), BoardError> {
    if !is_enabled(node) {
        return Ok(());
    }
    if string(node, "device_type") == "memory" {
        return found.memory_node(node, depth, path);
    }
    match path.roles[depth - 1] {
        Role::Cpus if string(node, "device_type") == "cpu" => return found.cpu_node(node, path.buses[depth - 1]),
        Role::ReservedMemory => return found.reserved_node(node, depth, path),
        _ => {}
    }
    if is_compatible(node, &["arm,gic-400", "arm,cortex-a15-gic", "arm,cortex-a9-gic", "arm,cortex-a7-gic"]) {
        let distributor = reg(node, depth, path, 0).ok_or(BoardError::Reg("interrupt controller"))?;
        let cpu_interface = reg(node, depth, path, 1).ok_or(BoardError::Reg("interrupt controller"))?;
        found.gic.get_or_insert(Gic::V2 { distributor, cpu_interface });
    } else if is_compatible(node, &["arm,gic-v3"]) {
        let gic = gic_v3(node, depth, path)?;
        found.gic.get_or_insert(gic);
    } else if is_compatible(node, &["arm,armv8-timer"]) {
        found.timer_hz = cell(node, "clock-frequency").filter(|&hz| hz != 0);
        found.virtual_timer_irq = interrupt(node, 2).unwrap_or(VIRTUAL_TIMER_IRQ);
    } else if is_compatible(node, &["arm,pl011"]) {
        found.uart_node(node, UartKind::Pl011, depth, path, is_console)?;
    } else if is_compatible(node, &["cdns,uart-r1p12", "cdns,uart-r1p8", "xlnx,xuartps"]) {
        found.uart_node(node, UartKind::Cadence, depth, path, is_console)?;
    } else if is_compatible(node, &["virtio,mmio"])
        && let (Some(registers), Some(irq)) = (reg(node, depth, path, 0), interrupt(node, 0))
    {
        // A table that is full loses devices, not the boot.
        let _ = found.virtio.push(VirtioMmio { registers, irq });
    } else if is_compatible(node, &["arm,psci-1.0", "arm,psci-0.2", "arm,psci"]) {
        found.psci = match string(node, "method") {
            "hvc" => Some(PsciMethod::Hvc),
            "smc" => Some(PsciMethod::Smc),
            _ => return Err(BoardError::Value("the PSCI method")),
        };
    }
    Ok(())
}

impl<'a> Path<'a> {
    fn new(root: Bus<'a>) -> Self {
        Self { buses: [root; MAX_DEPTH + 1], roles: [Role::Other; MAX_DEPTH + 1], console_match: 0 }
    }

    /// Makes `node` (at `depth`, 1 = child of the root) the innermost open node; says whether `console` names it.
    fn enter(&mut self, depth: usize, node: Node<'a>, console: &str) -> bool {
        self.buses[depth] = bus_of(node);
        let name = full_name(node);
        self.roles[depth] = match (depth, name.0) {
            (1, "cpus") => Role::Cpus,
            (1, "reserved-memory") => Role::ReservedMemory,
            _ => Role::Other,
        };
        self.console_match = self.console_match.min(depth - 1);
        if console.is_empty() || self.console_match != depth - 1 {
            return false;
        }
        let Some(component) = console.split('/').nth(depth - 1) else { return false };
        let (base, unit) = component.split_once('@').map_or((component, None), |(b, u)| (b, Some(u)));
        if base == name.0 && (unit.is_none() || unit == name.1) {
            self.console_match = depth;
        }
        self.console_match == depth && console.split('/').count() == depth
    }
}

impl Found {
    fn new() -> Self {
        Self {
            memory: RegionSet::new(),
            reserved: RegionSet::new(),
            dropped_regions: 0,
            gic: None,
            virtual_timer_irq: VIRTUAL_TIMER_IRQ,
            timer_hz: None,
            uart: None,
            uart_is_chosen: false,
            virtio: List::new(),
            psci: None,
            cpus: List::new(),
        }
    }

    /// Notes a range to be left alone. If there is no room, everything from there up to the end is left alone.
    fn reserve(&mut self, region: Region) {
        if self.reserved.add(region).is_err() {
            self.dropped_regions += 1;
            // Merge upwards until it fits: too much reserved is safe, too little is not.
            let mut grown = region;
            let before = self.reserved;
            for r in before.iter().rev() {
                grown = Region { start: grown.start.min(r.start), end: grown.end.max(r.end) };
                let mut attempt = before;
                if attempt.add(grown).is_ok() {
                    self.reserved = attempt;
                    return;
                }
            }
        }
    }

    fn memory_node(&mut self, node: Node<'_>, depth: usize, path: &Path<'_>) -> Result<(), BoardError> {
        for index in 0..reg_count(node, path.buses[depth - 1]) {
            let region = reg(node, depth, path, index).ok_or(BoardError::Reg("memory"))?;
            if self.memory.add(region).is_err() {
                self.dropped_regions += 1;
            }
        }
        Ok(())
    }

    fn reserved_node(&mut self, node: Node<'_>, depth: usize, path: &Path<'_>) -> Result<(), BoardError> {
        for index in 0..reg_count(node, path.buses[depth - 1]) {
            self.reserve(reg(node, depth, path, index).ok_or(BoardError::Reg("reserved memory"))?);
        }
        Ok(())
    }

    fn cpu_node(&mut self, node: Node<'_>, bus: Bus<'_>) -> Result<(), BoardError> {
        let mut cells = Cells(value(node, "reg").ok_or(BoardError::Reg("processor core"))?);
        let mpidr = cells.take(bus.address_cells).ok_or(BoardError::Reg("processor core"))?;
        let start = match string(node, "enable-method") {
            "psci" => StartMethod::Psci,
            "spin-table" => {
                let address = value(node, "cpu-release-addr").and_then(|v| Cells(v).take(v.len() / 4));
                StartMethod::SpinTable(address.ok_or(BoardError::Value("a core's release address"))?)
            }
            _ => StartMethod::None,
        };
        // More cores than we can use: the rest stays off.
        let _ = self.cpus.push(Cpu { mpidr: mpidr & 0xff_00ff_ffff, start });
        Ok(())
    }

    fn uart_node(
        &mut self,
        node: Node<'_>,
        kind: UartKind,
        depth: usize,
        path: &Path<'_>,
        is_console: bool,
    ) -> Result<(), BoardError> {
        if self.uart.is_some() && (self.uart_is_chosen || !is_console) {
            return Ok(());
        }
        let registers = reg(node, depth, path, 0).ok_or(BoardError::Reg("serial port"))?;
        self.uart = Some(Uart { kind, registers, irq: interrupt(node, 0) });
        self.uart_is_chosen = is_console;
        Ok(())
    }
}

fn gic_v3<'a>(node: Node<'a>, depth: usize, path: &Path<'a>) -> Result<Gic, BoardError> {
    let distributor = reg(node, depth, path, 0).ok_or(BoardError::Reg("interrupt controller"))?;
    let count = cell(node, "#redistributor-regions").unwrap_or(1) as usize;
    if count == 0 || count > MAX_REDISTRIBUTORS {
        return Err(BoardError::Value("the number of redistributor regions"));
    }
    let mut redistributors = [None; MAX_REDISTRIBUTORS];
    for (index, slot) in redistributors.iter_mut().enumerate().take(count) {
        *slot = Some(reg(node, depth, path, 1 + index).ok_or(BoardError::Reg("interrupt controller"))?);
    }
    Ok(Gic::V3 { distributor, redistributors })
}

/// `/chosen` and the alias its console path may use.
fn read_chosen<'a>(fdt: &Fdt<'a>) -> Result<Chosen<'a>, BoardError> {
    let root: Node<'a> = fdt.root().map_err(|_| BoardError::Walk)?.as_node();
    let Some(node) = root.child("chosen").map_err(|_| BoardError::Walk)? else {
        return Ok(Chosen { initrd: None, bootargs: "", console: "" });
    };
    let word = |name| value(node, name).and_then(|v| Cells(v).take(v.len() / 4));
    let initrd = match (word("linux,initrd-start"), word("linux,initrd-end")) {
        (Some(start), Some(end)) if start < end => Some(Region { start, end }),
        (None, None) => None,
        _ => return Err(BoardError::Value("the initial RAM disk's range")),
    };
    let console = string(node, "stdout-path").split(':').next().unwrap_or("");
    let console = match console.strip_prefix('/') {
        Some(path) => path,
        None => match root.child("aliases").map_err(|_| BoardError::Walk)? {
            Some(aliases) => string(aliases, console).strip_prefix('/').unwrap_or(""),
            None => "",
        },
    };
    Ok(Chosen { initrd, bootargs: string(node, "bootargs"), console })
}

/// The value of a property, unparsed.
fn value<'a>(node: Node<'a>, name: &str) -> Option<&'a [u8]> {
    node.raw_property(name).ok().flatten().map(|p| p.value)
}

/// A property as one NUL-terminated string; empty if absent or not a string.
fn string<'a>(node: Node<'a>, name: &str) -> &'a str {
    let bytes = value(node, name).unwrap_or(&[]);
    core::str::from_utf8(bytes.strip_suffix(&[0]).unwrap_or(&[])).unwrap_or("")
}

fn root_string<'a>(fdt: &Fdt<'a>, name: &str) -> &'a str {
    fdt.root().map_or("", |root| string(root.as_node(), name))
}

/// A property as one 32-bit number.
fn cell(node: Node<'_>, name: &str) -> Option<u32> {
    Some(u32::from_be_bytes(value(node, name)?.try_into().ok()?))
}

/// Name and unit address.
fn full_name<'a>(node: Node<'a>) -> (&'a str, Option<&'a str>) {
    node.name().map_or(("", None), |n| (n.name, n.unit_address))
}

/// Whether `status` is absent or okay.
fn is_enabled(node: Node<'_>) -> bool {
    matches!(string(node, "status"), "" | "okay" | "ok")
}

/// Whether one of the node's `compatible` strings is in `known`.
fn is_compatible(node: Node<'_>, known: &[&str]) -> bool {
    value(node, "compatible").unwrap_or(&[]).split(|&b| b == 0).any(|name| known.iter().any(|k| k.as_bytes() == name))
}

/// The `index`-th interrupt of a GIC client (three cells: type, number, flags) as a GIC interrupt id.
fn interrupt(node: Node<'_>, index: usize) -> Option<u32> {
    let mut cells = Cells(value(node, "interrupts")?.get(index.checked_mul(12)?..)?);
    match (cells.take(1)?, cells.take(1)?) {
        (0, number @ 0..988) => Some(number as u32 + 32),
        (1, number @ 0..16) => Some(number as u32 + 16),
        _ => None,
    }
}

/// The bus that `node` is for its children.
fn bus_of<'a>(node: Node<'a>) -> Bus<'a> {
    let cells = |name, default| cell(node, name).map_or(default, |n| n.min(16) as usize);
    Bus {
        address_cells: cells("#address-cells", 2),
        size_cells: cells("#size-cells", 1),
        ranges: value(node, "ranges"),
    }
}

/// How many entries the node's `reg` has on `bus`; an incomplete last entry counts (and then fails to parse).
fn reg_count(node: Node<'_>, bus: Bus<'_>) -> usize {
    let entry = (bus.address_cells + bus.size_cells) * 4;
    match entry {
        0 => 0,
        _ => value(node, "reg").map_or(0, |v| v.len().div_ceil(entry)),
    }
}

/// The `index`-th entry of the node's `reg` as physical addresses.
fn reg(node: Node<'_>, depth: usize, path: &Path<'_>, index: usize) -> Option<Region> {
    let bus = path.buses[depth - 1];
    let entry = (bus.address_cells + bus.size_cells) * 4;
    let mut cells = Cells(value(node, "reg")?.get(index.checked_mul(entry)?..)?);
    let mut region = Region::from_size(cells.take(bus.address_cells)?, cells.take(bus.size_cells)?)?;
    // From the bus the node is on, up to the root's.
    for level in (1..depth).rev() {
        region = translate(region, path.buses[level], path.buses[level - 1])?;
    }
    Some(region)
}

/// A region of `bus` in the addresses of its parent bus.
fn translate(region: Region, bus: Bus<'_>, parent: Bus<'_>) -> Option<Region> {
    let ranges = bus.ranges?;
    if ranges.is_empty() {
        return Some(region);
    }
    let mut cells = Cells(ranges);
    loop {
        let child = cells.take(bus.address_cells)?;
        let base = cells.take(parent.address_cells)?;
        let size = cells.take(bus.size_cells)?;
        let Some(window) = Region::from_size(child, size) else { continue };
        if window.contains(&region) {
            return Region::from_size(base.checked_add(region.start - child)?, region.size());
        }
    }
}

/// Big-endian 32-bit cells, read from the front.
struct Cells<'a>(&'a [u8]);

impl Cells<'_> {
    /// The next `count` cells as one number; `None` at the end, if `count` is 0, or if the number does not fit.
    fn take(&mut self, count: usize) -> Option<u64> {
        if count == 0 {
            return None;
        }
        let bytes = self.0.get(..count.checked_mul(4)?)?;
        self.0 = &self.0[count * 4..];
        bytes.chunks_exact(4).try_fold(0u64, |acc, c| {
            let cell = u32::from_be_bytes(c.try_into().ok()?);
            (acc >> 32 == 0).then_some(acc << 32 | u64::from(cell))
        })
    }
}
