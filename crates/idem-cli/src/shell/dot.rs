//! The commands that start with a dot.

use std::{
    fmt::Write as _,
    io::{self, Write},
    sync::PoisonError,
};

use clap::ValueEnum;
use idem::TransportConfig;

use super::{Shell, attachments};
use crate::{
    args::Format,
    exit::CliError,
    opening::peer_error,
    peer::{Reach, transport_config},
    query::stdout_error,
};

/// The commands with their arguments and what they do.
pub(super) const COMMANDS: [(&str, &str, &str); 14] = [
    (".help", "", "show this list"),
    (".collections", "", "list the collections"),
    (".indexes", "", "list the indexes"),
    (
        ".format",
        "FORMAT",
        "print results as table, json, jsonl or csv",
    ),
    (
        ".listen",
        "HOST:PORT",
        "sync, and accept links at this address",
    ),
    (
        ".lan",
        "",
        "sync, and find peers on the networks of this machine",
    ),
    (
        ".connect",
        "HOST:PORT|URL",
        "sync, and keep a link to this peer",
    ),
    (
        ".subscribe",
        "QUERY",
        "ask the linked peers for what matches, e.g. SELECT * FROM cars",
    ),
    (
        ".attach",
        "FILE",
        "store a file, and print the token for a document",
    ),
    (
        ".fetch",
        "ID LEN FILE",
        "bring an attachment here, and write it to a file",
    ),
    (".offline", "", "close all links and stop to sync"),
    (
        ".peers",
        "",
        "show who is there, and what happened to a link last",
    ),
    (".stats", "", "show sizes and counts"),
    (".quit", "", "leave (also Ctrl-D)"),
];

/// Runs a dot command; true if it ends the shell.
pub(super) fn run(shell: &mut Shell, line: &str) -> Result<bool, CliError> {
    if let Some(query) = line.strip_prefix(".subscribe ") {
        subscribe(shell, query.trim().trim_end_matches(';'))?;
        return Ok(false);
    }
    if let Some(path) = line.strip_prefix(".attach ") {
        print(&attachments::attach(shell, path.trim())?)?;
        return Ok(false);
    }
    if let Some(rest) = line.strip_prefix(".fetch ") {
        let words: Vec<&str> = rest.trim().splitn(3, ' ').collect();
        attachments::fetch(shell, &words)?;
        return Ok(false);
    }
    let mut words = line.split_ascii_whitespace();
    let (name, argument) = (words.next().unwrap_or_default(), words.next());
    match (name, argument) {
        (".quit" | ".exit", None) => return Ok(true),
        (".help", None) => print(&help())?,
        (".collections", None) => {
            shell.execute("SELECT * FROM system:collections")?;
        }
        (".indexes", None) => shell.execute("SELECT * FROM system:indexes")?,
        (".format", Some(name)) => {
            shell.format = Format::from_str(name, true).map_err(|_| {
                CliError::usage(format!("there is no format {name:?}"))
                    .hint("table, json, jsonl or csv")
            })?;
        }
        (".listen", Some(address)) => {
            let config = transport_config(&Reach {
                listen: Some(address.to_owned()),
                ..Reach::default()
            })?;
            sync(shell, |current| current.listen = config.listen)?;
        }
        (".lan", None) => {
            sync(shell, TransportConfig::enable_all_peer_to_peer)?;
        }
        (".connect", Some(address)) => {
            let mut config = transport_config(&Reach {
                connect: vec![address.to_owned()],
                ..Reach::default()
            })?;
            sync(shell, |current| {
                let connect = &mut current.connect;
                connect.tcp_servers.append(&mut config.connect.tcp_servers);
                let urls = &mut config.connect.websocket_urls;
                connect.websocket_urls.append(urls);
                let peers = &mut config.connect.internet_peers;
                connect.internet_peers.append(peers);
            })?;
        }
        (".offline", None) => {
            shell.idem.sync().stop();
            shell.talk.note("offline");
        }
        (".peers", None) => print(&peers(shell))?,
        (".stats", None) => print(&statistics(shell)?)?,
        _ => {
            return Err(
                CliError::usage(format!("there is no command {line:?}")).hint(".help lists them")
            );
        }
    }
    Ok(false)
}

fn print(text: &str) -> Result<(), CliError> {
    io::stdout()
        .lock()
        .write_all(text.as_bytes())
        .map_err(stdout_error)
}

fn help() -> String {
    let mut out = String::from("A statement ends with a semicolon and may span lines.\n");
    for (name, argument, what) in COMMANDS {
        let usage = format!("{name} {argument}");
        writeln!(out, "  {usage:<20} {what}").expect("writing to a string does not fail");
    }
    out
}

fn sync(shell: &Shell, change: impl FnOnce(&mut TransportConfig)) -> Result<(), CliError> {
    shell
        .idem
        .update_transport_config(change)
        .and_then(|()| shell.idem.sync().start())
        .map_err(|error| peer_error("cannot sync", error))?;
    for address in shell.idem.sync().tcp_addresses() {
        shell.talk.note(&format!("listening at {address}"));
    }
    Ok(())
}

fn subscribe(shell: &mut Shell, query: &str) -> Result<(), CliError> {
    let subscription = shell.idem.sync().register_subscription(query);
    let subscription =
        subscription.map_err(|error| peer_error("the subscription is not taken", error))?;
    shell.subscriptions.push(subscription);
    shell.talk.note("subscribed, until this shell ends");
    Ok(())
}

fn peers(shell: &Shell) -> String {
    let graph = shell.idem.presence().graph();
    let mut out = String::new();
    if graph.remote_peers.is_empty() {
        out.push_str("no peer is linked\n");
    }
    let news = shell.link_news.lock();
    if let Some(news) = &*news.unwrap_or_else(PoisonError::into_inner) {
        writeln!(out, "last: {}", crate::output::printable(news))
            .expect("writing to a string does not fail");
    }
    for peer in &graph.remote_peers {
        let addresses = peer.connections.iter();
        let addresses = addresses.filter_map(|connection| connection.address);
        let addresses: Vec<_> = addresses.map(|address| address.to_string()).collect();
        let place = if peer.connections.is_empty() {
            format!("{} links away", peer.distance)
        } else {
            addresses.join(" ")
        };
        let name = crate::output::printable(&peer.device_name);
        writeln!(out, "{}  {name}  {place}", peer.peer_key)
            .expect("writing to a string does not fail");
    }
    out
}

fn statistics(shell: &Shell) -> Result<String, CliError> {
    let statistics = shell
        .idem
        .store()
        .statistics()
        .map_err(|error| peer_error("cannot measure the store", error))?;
    Ok(format!(
        "on disk        {} bytes\nlast commit    {}\ndurable up to  {}\nobservers      {}\n",
        statistics.disk_bytes,
        statistics.last_commit,
        statistics.durable_commit,
        shell.idem.store().observer_count()
    ))
}
