//! The picture of the mesh: peers in columns by how many links away they are, and lines between them.
//!
//! It is the same for the same peers and links, whatever the order in which they became known.

use std::collections::BTreeMap;

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::{Modifier, Style},
};

/// The mesh as it is drawn. The peer itself is the first one.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Mesh {
    pub(crate) peers: Vec<MeshPeer>,
    /// Between which of `peers` there are links.
    pub(crate) links: Vec<[usize; 2]>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct MeshPeer {
    pub(crate) label: String,
    /// Links away.
    pub(crate) distance: u16,
}

/// Columns of the screen that one column of peers takes at least, and at most.
const COLUMN_MIN: u16 = 16;
const COLUMN_MAX: u16 = 26;

/// Columns between a name and the names to its right, for lines.
const GAP: u16 = 6;

/// Draws the mesh into `area`.
pub(super) fn draw(mesh: &Mesh, area: Rect, buffer: &mut Buffer) {
    if area.is_empty() {
        return;
    }
    if mesh.peers.len() < 2 {
        let text = "no other peer is known";
        buffer.set_stringn(area.x, area.y, text, area.width.into(), Style::new());
        return;
    }
    let columns = columns(mesh);
    let shown = usize::from(area.width / COLUMN_MIN).clamp(1, columns.len());
    let width = (area.width / u16::try_from(shown).unwrap_or(1)).min(COLUMN_MAX);
    let mut places = BTreeMap::new();
    let mut more = Vec::new();
    for (at, column) in columns.iter().take(shown).enumerate() {
        let x = area.x + width * u16::try_from(at).unwrap_or(0);
        let height = usize::from(area.height);
        let fitting = if column.len() > height {
            height - 1
        } else {
            column.len()
        };
        for (row, peer) in column.iter().take(fitting).enumerate() {
            // Few stand apart, many close together.
            let y = (row * height + height / 2) / column.len().min(height);
            let y = y.min(height - 1).max(row);
            places.insert(*peer, (x, area.y + u16::try_from(y).unwrap_or(0)));
        }
        if fitting < column.len() {
            more.push((x, column.len() - fitting));
        }
    }
    let label_width = width.saturating_sub(GAP).max(4);
    let end = |peer: usize| {
        let length = mesh.peers[peer].label.chars().count() + 3;
        u16::try_from(length).unwrap_or(u16::MAX).min(label_width)
    };
    for [one, other] in &mesh.links {
        if let (Some(a), Some(b)) = (places.get(one), places.get(other)) {
            let (one, a, other, b) = if a <= b {
                (*one, *a, *other, *b)
            } else {
                (*other, *b, *one, *a)
            };
            if a.0 == b.0 {
                // Beside the names, where lines to the next column begin.
                let x = (a.0 + label_width + 2).min(area.right() - 1);
                let middle = (x, u16::midpoint(a.1, b.1));
                line((a.0 + end(one), a.1), middle, buffer);
                line((b.0 + end(other), b.1), middle, buffer);
            } else {
                line((a.0 + end(one), a.1), (b.0.saturating_sub(1), b.1), buffer);
            }
        }
    }
    for (peer, (x, y)) in &places {
        let mark = if *peer == 0 { '@' } else { 'o' };
        let text = format!("{mark} {} ", mesh.peers[*peer].label);
        let style = if *peer == 0 {
            Style::new().add_modifier(Modifier::BOLD)
        } else {
            Style::new()
        };
        let room = label_width.min(area.right().saturating_sub(*x));
        buffer.set_stringn(*x, *y, text, room.into(), style);
    }
    for (x, count) in more {
        let text = format!("+{count} more ");
        buffer.set_stringn(x, area.bottom() - 1, text, label_width.into(), Style::new());
    }
}

/// The peers by their distance, near to those of the column before that they are linked with.
fn columns(mesh: &Mesh) -> Vec<Vec<usize>> {
    let mut by_distance: BTreeMap<u16, Vec<usize>> = BTreeMap::new();
    for (at, peer) in mesh.peers.iter().enumerate() {
        by_distance.entry(peer.distance).or_default().push(at);
    }
    let mut columns: Vec<Vec<usize>> = Vec::new();
    for mut column in by_distance.into_values() {
        if let Some(before) = columns.last() {
            let row_of = |peer: usize| {
                let linked = |at: usize| {
                    let link = |it: &[usize; 2]| *it == [at, peer] || *it == [peer, at];
                    mesh.links.iter().any(link)
                };
                before.iter().position(|at| linked(*at))
            };
            column.sort_by_cached_key(|peer| (row_of(*peer), mesh.peers[*peer].label.clone()));
        }
        columns.push(column);
    }
    columns
}

/// Draws a line of ASCII from one place to another one, over nothing that is there.
fn line(from: (u16, u16), to: (u16, u16), buffer: &mut Buffer) {
    let (dx, dy) = (
        i32::from(to.0) - i32::from(from.0),
        i32::from(to.1) - i32::from(from.1),
    );
    let steps = dx.abs().max(dy.abs());
    let mut last_y = i32::from(from.1);
    for step in 0..=steps {
        let along = |length: i32| {
            if steps == 0 {
                0
            } else {
                (2 * length * step + steps) / (2 * steps)
            }
        };
        let (x, y) = (i32::from(from.0) + along(dx), i32::from(from.1) + along(dy));
        let mark = match y.cmp(&last_y) {
            _ if dx == 0 => "|",
            std::cmp::Ordering::Less => "/",
            std::cmp::Ordering::Equal => "-",
            std::cmp::Ordering::Greater => "\\",
        };
        last_y = y;
        let place = u16::try_from(x).ok().zip(u16::try_from(y).ok());
        if let Some(cell) = place.and_then(|place| buffer.cell_mut(place)) {
            let drawn = match (cell.symbol(), mark) {
                (" ", _) => mark,
                (there, _) if there == mark => mark,
                _ => "+",
            };
            cell.set_symbol(drawn);
        }
    }
}
