//! Convergence curves and meshes as pictures.

use std::fmt::Write as _;

use crate::{
    delivery::CurvePoint,
    world::{MeshPicture, Report},
};

/// Size of the picture and of what is around the curves, in pixels.
const WIDTH: u64 = 800;
const HEIGHT: u64 = 420;
const LEFT: u64 = 60;
const RIGHT: u64 = 30;
const TOP: u64 = 40;
const BOTTOM: u64 = 50;

/// Size of the picture of a mesh, in pixels.
const MESH_SIDE: u64 = 420;

/// What a picture of a mesh shows at most. At 100 bytes each it stays below a megabyte.
const DRAWN_PEERS_MAX: usize = 2_000;
const DRAWN_LINKS_MAX: usize = 6_000;

/// Draws a run: its convergence curve, and below it, if it has a field, the mesh at the end of the faults and at
/// rest. `title` is one line above it.
pub fn draw_run(title: &str, report: &Report) -> String {
    let curve = draw_curve(title, &report.curve, report.healed_us);
    let Some(mesh) = &report.mesh else {
        return curve;
    };
    let mut out = Picture::default();
    let (width, height) = (WIDTH.max(2 * MESH_SIDE), HEIGHT + MESH_SIDE);
    out.put(format_args!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\">"
    ));
    let parts = [
        (0, 0, (WIDTH, HEIGHT), curve),
        (
            0,
            HEIGHT,
            (MESH_SIDE, MESH_SIDE),
            draw_mesh("at the end of the faults", &mesh.at_worst),
        ),
        (
            MESH_SIDE,
            HEIGHT,
            (MESH_SIDE, MESH_SIDE),
            draw_mesh("at rest", &mesh.at_rest),
        ),
    ];
    for (x, y, (width, height), part) in parts {
        let place = format!("<svg x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" ");
        out.put(format_args!("{}", part.replacen("<svg ", &place, 1)));
    }
    out.put(format_args!("</svg>"));
    out.text
}

/// Draws the peers of a mesh at their places and the links between them, each island in a colour of its own; links in
/// local networks are dashed, peers that are on no island grey. Of very large meshes some peers and links are left out.
pub fn draw_mesh(title: &str, mesh: &MeshPicture) -> String {
    let mut out = Picture::default();
    let at = |share: u16| 20 + u64::from(share.min(1000)) * (MESH_SIDE - 60) / 1000;
    let spot = |peer: usize| {
        let (x, y) = mesh.places.get(peer).copied().unwrap_or_default();
        (at(x), at(y) + 20)
    };
    let colour = |peer: usize| match mesh.islands.get(peer).copied().flatten() {
        Some(island) => format!("hsl({},65%,42%)", (210 + island * 137) % 360),
        None => "#aaaaaa".to_owned(),
    };
    out.put(format_args!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {MESH_SIDE} {MESH_SIDE}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"{MESH_SIDE}\" height=\"{MESH_SIDE}\" fill=\"#ffffff\"/>\n\
         <text x=\"20\" y=\"20\">{}: {} peers, {} links</text>",
        escaped(title),
        mesh.places.len(),
        mesh.links.len()
    ));
    for &(a, b, is_radio) in mesh.links.iter().take(DRAWN_LINKS_MAX) {
        let ((x1, y1), (x2, y2)) = (spot(a), spot(b));
        let dashes = if is_radio {
            ""
        } else {
            " stroke-dasharray=\"3 2\""
        };
        out.put(format_args!(
            "<path d=\"M{x1} {y1}L{x2} {y2}\" stroke=\"{}\" stroke-opacity=\"0.5\"{dashes}/>",
            colour(a)
        ));
    }
    let radius = if mesh.places.len() > 200 { 2 } else { 4 };
    for peer in 0..mesh.places.len().min(DRAWN_PEERS_MAX) {
        let (x, y) = spot(peer);
        out.put(format_args!(
            "<circle cx=\"{x}\" cy=\"{y}\" r=\"{radius}\" fill=\"{}\"/>",
            colour(peer)
        ));
    }
    out.put(format_args!("</svg>"));
    out.text
}

/// Draws the share of (peer, write) pairs that were delivered over time, and how many had been written,
/// as an SVG picture. `title` is one line above it, `healed_us` the moment when the faults ended.
pub fn draw_curve(title: &str, curve: &[CurvePoint], healed_us: u64) -> String {
    let end_us = curve.last().map_or(1, |point| point.at_us.max(1));
    let end_us = end_us.max(healed_us);
    let line = |share: fn(&CurvePoint) -> u16| {
        let points = curve.iter();
        let points = points.map(|point| format!("{},{}", x(point.at_us, end_us), y(share(point))));
        points.collect::<Vec<_>>().join(" ")
    };
    let mut out = Picture::default();
    out.put(format_args!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>\n\
         <text x=\"{LEFT}\" y=\"24\" font-size=\"15\">{}</text>",
        escaped(title)
    ));
    out.axes(end_us);
    if healed_us > 0 {
        let at = x(healed_us, end_us);
        let (end, above) = (HEIGHT - BOTTOM, HEIGHT - BOTTOM - 8);
        out.put(format_args!(
            "<line x1=\"{at}\" x2=\"{at}\" y1=\"{TOP}\" y2=\"{end}\" stroke=\"#2a9d4a\" \
             stroke-dasharray=\"4 4\"/><text x=\"{}\" y=\"{above}\" text-anchor=\"end\" \
             fill=\"#2a9d4a\">healed</text>",
            at - 6
        ));
    }
    out.put(format_args!(
        "<polyline fill=\"none\" stroke=\"#999999\" stroke-dasharray=\"3 3\" points=\"{}\"/>\n\
         <polyline fill=\"none\" stroke=\"#1f6feb\" stroke-width=\"2\" points=\"{}\"/>\n\
         <text x=\"{LEFT}\" y=\"{}\"><tspan fill=\"#1f6feb\">delivered</tspan> and \
         <tspan fill=\"#777777\">written</tspan>, in parts of all (peer, write) pairs</text>\n</svg>",
        line(|point| point.written),
        line(|point| point.delivered),
        HEIGHT - 8
    ));
    out.text
}

#[derive(Default)]
struct Picture {
    text: String,
}

impl Picture {
    fn put(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "{text}");
    }

    fn axes(&mut self, end_us: u64) {
        for percent in [0_u16, 25, 50, 75, 100] {
            let at = y(percent * 10);
            self.put(format_args!(
                "<line x1=\"{LEFT}\" x2=\"{}\" y1=\"{at}\" y2=\"{at}\" stroke=\"#dddddd\"/>\n\
                 <text x=\"{}\" y=\"{}\" text-anchor=\"end\">{percent} %</text>",
                WIDTH - RIGHT,
                LEFT - 8,
                at + 4
            ));
        }
        for part in 0..=4 {
            let at_us = end_us * part / 4;
            self.put(format_args!(
                "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}.{:02} s</text>",
                x(at_us, end_us),
                HEIGHT - BOTTOM + 20,
                at_us / 1_000_000,
                at_us % 1_000_000 / 10_000
            ));
        }
    }
}

fn x(at_us: u64, end_us: u64) -> u64 {
    let width = WIDTH - LEFT - RIGHT;
    let at = u128::from(at_us) * u128::from(width) / u128::from(end_us.max(1));
    LEFT + u64::try_from(at).unwrap_or(width).min(width)
}

fn y(share: u16) -> u64 {
    let height = HEIGHT - TOP - BOTTOM;
    TOP + height - u64::from(share.min(1000)) * height / 1000
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
