//! The screen: a pure function of a snapshot and of what the user chose. All of it is ASCII, so that it
//! looks the same on a serial line.

use std::time::Duration;

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::{Color, Modifier, Style},
};

use super::{
    mesh,
    snapshot::{LinkRow, Snapshot, WaitingRow},
};

/// What the user chose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct View {
    pub(super) sort: Sort,
    /// The first link that is shown.
    pub(super) first: usize,
    pub(super) is_help: bool,
}

/// By what links are sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Sort {
    #[default]
    Peer,
    Medium,
    RoundTrip,
    Received,
    Sent,
    Behind,
}

/// The smallest terminal in which something can be seen.
const WIDTH_MIN: u16 = 40;
const HEIGHT_MIN: u16 = 8;

/// Columns for the peer, the medium and the address, where there is room for them, and where there is less.
const WIDE: [usize; 3] = [20, 10, 24];
const NARROW: [usize; 3] = [14, 4, 18];
const WIDE_MIN: u16 = 98;

const HELP: [&str; 17] = [
    "",
    "  q, Esc, Ctrl-C   quit: sync stops cleanly",
    "  h, ?             this help, and back",
    "  s                sort links by the next column",
    "  Up, Down, k, j   show other links",
    "",
    "  <- / ->          the other side dialled / this side did",
    "  rtt ms           how long a word takes there and back",
    "  in/s, out/s      bytes a second since the last look",
    "  behind           documents that the other peer lacks; ? is not known",
    "  !                no link there now, and why",
    "",
    "  In the mesh, @ is this peer; the next column is linked with it, the one",
    "  behind that is two links away, and so on.",
    "",
    "  The same is in system:transports_info and system:data_sync_info",
    "  (docs/dql/system.md), and without --tui on stdout.",
];

/// Draws all of it into `area`.
pub(super) fn draw(snapshot: &Snapshot, view: &View, area: Rect, buffer: &mut Buffer) {
    let mut page = Page { area, buffer };
    if area.width < WIDTH_MIN || area.height < HEIGHT_MIN {
        let text = format!("{WIDTH_MIN} columns and {HEIGHT_MIN} lines are needed");
        page.put(0, &text, Style::new());
        return;
    }
    page.title(snapshot);
    let last = area.height - 1;
    let keys = format!(
        " q quit  h help  s sort: {}  Up/Down links",
        view.sort.name()
    );
    page.put(last, &keys, bar());
    if view.is_help {
        for (y, line) in (2..last).zip(HELP) {
            page.put(y, line, Style::new());
        }
        return;
    }
    // Two fifths for links, as much for the mesh, the rest for events.
    let rest = last - 1;
    let wanted = snapshot.links.len() + snapshot.waiting.len() + 1;
    let links = u16::try_from(wanted)
        .unwrap_or(u16::MAX)
        .clamp(2, rest * 2 / 5);
    let events = (rest / 5).max(1) + 1;
    let mesh = rest.saturating_sub(links + events);
    page.links(snapshot, view, 1, links);
    if mesh >= 2 {
        let y = 1 + links;
        let peers = snapshot.mesh.peers.len();
        let count = snapshot.mesh.links.len();
        page.put(y, &format!(" mesh: {peers} peers, {count} links"), bar());
        let picture = Rect {
            y: area.y + y + 1,
            height: mesh - 1,
            ..area
        };
        mesh::draw(&snapshot.mesh, picture, page.buffer);
    }
    let y = 1 + links + mesh;
    page.put(y, " events", bar());
    let lines = snapshot
        .events
        .last(usize::from(last.saturating_sub(y + 1)));
    for (y, line) in (y + 1..last).zip(lines) {
        page.put(y, &format!("  {line}"), Style::new());
    }
}

struct Page<'a> {
    area: Rect,
    buffer: &'a mut Buffer,
}

impl Page<'_> {
    /// Writes a line; what is too long is cut. Control characters, which names of others may have, are left
    /// out by the buffer.
    fn put(&mut self, y: u16, text: &str, style: Style) {
        let Rect { x, width, .. } = self.area;
        let y = self.area.y + y;
        if y >= self.area.bottom() {
            return;
        }
        self.buffer.set_style(Rect::new(x, y, width, 1), style);
        self.buffer.set_stringn(x, y, text, width.into(), style);
    }

    fn title(&mut self, snapshot: &Snapshot) {
        let key = snapshot.peer.get(..12).unwrap_or(&snapshot.peer);
        let (received, sent) = snapshot
            .links
            .iter()
            .fold((0.0, 0.0), |(received, sent), link| {
                (received + link.received, sent + link.sent)
            });
        let title = format!(
            " idem peer {key}  up {}  {} links  in {}/s  out {}/s  store {}  database {}",
            span(snapshot.up),
            snapshot.links.len(),
            bytes(received),
            bytes(sent),
            snapshot.store,
            snapshot.database,
        );
        self.put(0, &title, bar());
    }

    /// The links and the ways that lead nowhere, from line `y` on, in `height` lines.
    fn links(&mut self, snapshot: &Snapshot, view: &View, y: u16, height: u16) {
        let widths = if self.area.width < WIDE_MIN {
            NARROW
        } else {
            WIDE
        };
        let head = [
            "peer", "via", "address", "rtt ms", "in/s", "out/s", "behind", "up",
        ];
        let bold = Style::new().add_modifier(Modifier::BOLD);
        self.put(y, &row("  ", head, widths), bold);
        let mut links: Vec<&LinkRow> = snapshot.links.iter().collect();
        view.sort.sort(&mut links);
        let mut lines: Vec<(String, Style)> = links
            .into_iter()
            .map(|link| (shown(link, widths), Style::new()))
            .collect();
        let warning = Style::new().fg(Color::Yellow);
        let waiting = snapshot.waiting.iter();
        lines.extend(waiting.map(|way| (shown_waiting(way), warning)));
        if lines.is_empty() {
            lines.push(("  no link, and nobody to dial".to_owned(), Style::new()));
        }
        let room = usize::from(height - 1);
        let first = view.first.min(lines.len().saturating_sub(room));
        let hidden = lines.len().saturating_sub(first + room);
        for (at, (line, style)) in lines.into_iter().skip(first).take(room).enumerate() {
            let y = y + 1 + u16::try_from(at).unwrap_or(u16::MAX);
            if at + 1 == room && hidden > 0 {
                let text = format!("  .. {} more", hidden + 1);
                self.put(y, &text, Style::new());
            } else {
                self.put(y, &line, style);
            }
        }
    }
}

fn shown(link: &LinkRow, widths: [usize; 3]) -> String {
    let arrow = if link.is_inbound { "<-" } else { "->" };
    let trip = link
        .round_trip_ms
        .map_or_else(|| "?".to_owned(), milliseconds);
    let behind = link
        .behind
        .map_or_else(|| "?".to_owned(), |count| count.to_string());
    let medium = match &*link.medium {
        "websocket" if widths == NARROW => "ws",
        medium => medium,
    };
    let cells = [
        &link.peer,
        medium,
        &link.address,
        &trip,
        &bytes(link.received),
        &bytes(link.sent),
        &behind,
        &span(link.up),
    ];
    row(arrow, cells, widths)
}

/// A line of the table.
fn row(mark: &str, cells: [&str; 8], [peer, medium, address]: [usize; 3]) -> String {
    let [
        of_peer,
        of_medium,
        of_address,
        trip,
        received,
        sent,
        behind,
        up,
    ] = cells;
    format!(
        "{mark}{:<peer$} {:<medium$} {:<address$} {trip:>7} {received:>7} {sent:>7} {behind:>7} {up:>7}",
        cut(of_peer, peer),
        cut(of_medium, medium),
        cut(of_address, address),
    )
}

fn shown_waiting(way: &WaitingRow) -> String {
    let WaitingRow {
        medium,
        address,
        state,
        because,
    } = way;
    let place = if address.is_empty() { "-" } else { address };
    let because = if because.is_empty() {
        String::new()
    } else {
        format!(": {because}")
    };
    format!("! {medium} {place} {state}{because}")
}

impl Sort {
    const ALL: [Self; 6] = [
        Self::Peer,
        Self::Medium,
        Self::RoundTrip,
        Self::Received,
        Self::Sent,
        Self::Behind,
    ];

    pub(super) fn next(self) -> Self {
        let at = Self::ALL.iter().position(|it| *it == self).unwrap_or(0);
        Self::ALL[(at + 1) % Self::ALL.len()]
    }

    fn name(self) -> &'static str {
        match self {
            Self::Peer => "peer",
            Self::Medium => "medium",
            Self::RoundTrip => "rtt",
            Self::Received => "in",
            Self::Sent => "out",
            Self::Behind => "behind",
        }
    }

    /// What is large goes first, but for words.
    fn sort(self, links: &mut [&LinkRow]) {
        let falling = |a: f64, b: f64| b.total_cmp(&a);
        links.sort_by(|a, b| {
            let by = match self {
                Self::Peer => std::cmp::Ordering::Equal,
                Self::Medium => a.medium.cmp(&b.medium),
                Self::RoundTrip => falling(
                    a.round_trip_ms.unwrap_or(-1.0),
                    b.round_trip_ms.unwrap_or(-1.0),
                ),
                Self::Received => falling(a.received, b.received),
                Self::Sent => falling(a.sent, b.sent),
                Self::Behind => b.behind.cmp(&a.behind),
            };
            by.then_with(|| (&a.peer, &a.address).cmp(&(&b.peer, &b.address)))
        });
    }
}

fn bar() -> Style {
    Style::new().add_modifier(Modifier::REVERSED)
}

/// The text, or its beginning with `~`.
fn cut(text: &str, length: usize) -> String {
    if text.chars().count() <= length {
        return text.to_owned();
    }
    let start: String = text.chars().take(length - 1).collect();
    format!("{start}~")
}

/// Bytes in at most 6 columns.
fn bytes(bytes: f64) -> String {
    match bytes {
        _ if bytes < 1e3 => format!("{bytes:.0}"),
        _ if bytes < 1e6 => format!("{:.1}k", bytes / 1e3),
        _ if bytes < 1e9 => format!("{:.1}M", bytes / 1e6),
        _ => format!("{:.1}G", bytes / 1e9),
    }
}

fn milliseconds(time: f64) -> String {
    if time < 100.0 {
        format!("{time:.1}")
    } else {
        format!("{time:.0}")
    }
}

/// A time in at most 7 columns.
fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{minutes}m{:02}s", seconds % 60),
        3600..172_800 => format!("{hours}h{:02}m", minutes % 60),
        _ => format!("{}d{:02}h", hours / 24, hours % 24),
    }
}

#[cfg(test)]
mod tests;
