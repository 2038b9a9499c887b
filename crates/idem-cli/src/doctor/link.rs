//! Whether this peer gets a link with another one, and why not.

use std::{sync::mpsc, time::Duration};

use idem::{ConditionKind, Idem, TransportCondition};

use super::Finding;
use crate::{
    args::{DatabaseArgs, DurabilityChoice, StoreArgs},
    exit::CliError,
    opening::{open, peer_error},
    peer::{Reach, transport_config},
};

/// More than both sides of a handshake may take.
const PATIENCE: Duration = Duration::from_secs(45);

/// Tries a link with each of the addresses.
pub(super) fn check(
    store: &StoreArgs,
    database: &DatabaseArgs,
    connect: &[String],
) -> Vec<Finding> {
    let tried = connect.iter().map(|address| {
        let found = attempt(store, database, address);
        found.unwrap_or_else(|error| {
            let mut words = format!("{address}: {error}");
            let mut cause = std::error::Error::source(&error);
            while let Some(below) = cause {
                words.push_str(&format!(": {below}"));
                cause = below.source();
            }
            let advice = error.advice().unwrap_or("see the message");
            Finding::fail("link", words, advice)
        })
    });
    tried.collect()
}

fn attempt(store: &StoreArgs, database: &DatabaseArgs, address: &str) -> Result<Finding, CliError> {
    let config = transport_config(&Reach {
        connect: vec![address.to_owned()],
        ..Reach::default()
    })?;
    let idem = open(store, database, DurabilityChoice::Durable)?;
    let heard = hear(&idem, config);
    let closed = idem.close_blocking();
    let heard = heard?;
    closed.map_err(|error| peer_error("cannot close the store", error))?;
    Ok(match heard {
        Some(heard) => finding(address, &heard),
        None => Finding::fail(
            "link",
            format!("{address}: nothing was heard in {} s", PATIENCE.as_secs()),
            "see whether a peer listens there",
        ),
    })
}

/// The first thing that says how it went.
fn hear(
    idem: &Idem,
    config: idem::TransportConfig,
) -> Result<Option<TransportCondition>, CliError> {
    let (tell, heard) = mpsc::channel();
    let _observer = idem.observe_transport_conditions(move |condition| {
        let is_outcome = !matches!(
            condition.kind,
            ConditionKind::Listening | ConditionKind::Insecure
        );
        if is_outcome {
            // Nobody listens after the first one.
            let _ = tell.send(condition);
        }
    });
    idem.set_transport_config(config)
        .and_then(|()| idem.sync().start())
        .map_err(|error| peer_error("cannot start to sync", error))?;
    let outcome = heard.recv_timeout(PATIENCE).ok();
    idem.sync().stop();
    Ok(outcome)
}

fn finding(address: &str, heard: &TransportCondition) -> Finding {
    let found = format!("{address}: {}", heard.message);
    let advice = match heard.kind {
        ConditionKind::Linked => return Finding::ok("link", found),
        ConditionKind::Unreachable => "see whether a peer listens there, and what is between",
        ConditionKind::NotAPeer => "something else listens there; give the address of a peer",
        ConditionKind::VersionMismatch => "update the older one of the two",
        ConditionKind::DatabaseMismatch => "give both the same --database",
        ConditionKind::ModeMismatch => {
            "give both a shared key, or both certificates (--authority and --certificate), or both a \
             --development-token"
        }
        ConditionKind::KeyMismatch => "give both the same shared key",
        ConditionKind::NotCertified => {
            "have an authority that both trust issue the certificate: idem authority issue"
        }
        ConditionKind::CertificateExpired => {
            "get another certificate: idem authority issue; if the message speaks of a clock, set it"
        }
        ConditionKind::Revoked => {
            "ask whoever keeps the authority; a certificate issued later counts"
        }
        ConditionKind::SelfLink => "give the address of another peer",
        ConditionKind::Full => "let the other side have more links (--links-max)",
        ConditionKind::Denied => "the app of one side decides about links; see there",
        _ => "try again; the message says what happened",
    };
    Finding::fail("link", found, advice)
}
