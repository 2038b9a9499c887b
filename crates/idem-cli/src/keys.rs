//! `idem keys`: the keys of encrypted stores.

use std::path::Path;

use idem::{Encryption, Idem, StoreKey, StoreKind};

use crate::{
    args::{DurabilityChoice, KeysArgs, KeysCommand, StoreArgs, StoreKeyArgs},
    exit::{CliError, ExitStatus},
    opening::{open_offline, peer_error},
    program::Talk,
};

/// Runs the command.
pub(crate) fn run(args: &KeysArgs, talk: Talk) -> Result<(), CliError> {
    match &args.command {
        KeysCommand::New { file } => new(file, talk),
        KeysCommand::Show { store } => show(store),
        KeysCommand::Peer { store } => peer(store),
        KeysCommand::Rotate {
            store,
            key,
            new_key_file,
        } => rotate(store, key, new_key_file.as_deref(), talk),
    }
}

fn new(file: &Path, talk: Talk) -> Result<(), CliError> {
    let failed = |error: idem::Error| {
        peer_error(
            format!("cannot make the key file {}", file.display()),
            error,
        )
    };
    let key = StoreKey::generate().map_err(|error| failed(error.into()))?;
    key.write_file(file).map_err(|error| failed(error.into()))?;
    println!("{}", file.display());
    talk.note("keep a copy of it elsewhere: without it nobody can read a store that it encrypts");
    Ok(())
}

fn show(store: &Path) -> Result<(), CliError> {
    let inspected = Encryption::inspect(store);
    let failed = |error| {
        peer_error(
            format!("cannot read the keys of {}", store.display()),
            error,
        )
    };
    match inspected.map_err(failed)? {
        StoreKind::Encrypted(status) => {
            println!("{} is encrypted", store.display());
            println!("scheme    {}", status.scheme);
            match status.passphrase {
                Some(costs) => println!(
                    "key       a passphrase (Argon2id, {} MiB, {} rounds)",
                    costs.memory_kib / 1024,
                    costs.rounds
                ),
                None => println!("key       32 bytes"),
            }
            println!("data key  {}", status.current_data_key);
            let older = status
                .data_keys
                .iter()
                .filter(|id| **id != status.current_data_key);
            let older: Vec<String> = older.map(ToString::to_string).collect();
            match older.is_empty() {
                true => println!("rotation  none under way"),
                false => println!(
                    "rotation  under way: some data is still under data key {}; it goes on while the store is open",
                    older.join(", ")
                ),
            }
        }
        _ if store.join("idem.redb").exists() => println!("{} is not encrypted", store.display()),
        _ => println!("{} holds no store", store.display()),
    }
    Ok(())
}

/// Prints the key of the peer.
fn peer(store: &StoreArgs) -> Result<(), CliError> {
    let idem = open_offline(store, DurabilityChoice::Durable)?;
    println!("{}", idem.peer_key());
    let closed = idem.close_blocking();
    closed.map_err(|error| peer_error("cannot close the store", error))
}

fn rotate(
    store: &Path,
    key: &StoreKeyArgs,
    new_key_file: Option<&Path>,
    talk: Talk,
) -> Result<(), CliError> {
    if key.store_key_file.is_none() {
        let what = "the key of the store is needed".to_owned();
        return Err(CliError::new(ExitStatus::Environment, what)
            .hint("give --store-key-file, or set IDEM_STORE_KEY_FILE"));
    }
    if !store.join("idem.redb").exists() {
        let what = format!("{} holds no store", store.display());
        return Err(CliError::new(ExitStatus::Environment, what));
    }
    let new_key = match new_key_file {
        Some(file) => Some(crate::opening::read_key(file)?),
        None => None,
    };
    let choice = StoreArgs {
        store: store.to_owned(),
        memory: false,
        key: key.clone(),
    };
    let idem = open_offline(&choice, DurabilityChoice::Durable)?;
    let rotated = act(&idem, new_key.as_ref(), talk);
    let closed = idem.close_blocking();
    rotated?;
    closed.map_err(|error| peer_error("cannot close the store", error))
}

fn act(idem: &Idem, new_key: Option<&StoreKey>, talk: Talk) -> Result<(), CliError> {
    let encryption = idem.encryption().expect("it was opened with a key");
    if let Some(key) = new_key {
        let changed = encryption.change_key(key);
        changed.map_err(|error| peer_error("cannot change the key", error))?;
        println!("the store opens with the new key file, and not with the one before");
        return Ok(());
    }
    let begun = encryption.rotate_data_key();
    begun.map_err(|error| peer_error("cannot begin the rotation", error))?;
    let mut told = 0;
    let waited = encryption.wait_for_rotation(|progress| {
        let tenth = progress.sectors_done * 10 / progress.sectors_total.max(1);
        if tenth > told {
            told = tenth;
            talk.note(&format!("{} %", tenth * 10));
        }
    });
    waited.map_err(|error| peer_error("the rotation stopped; the next opening goes on", error))?;
    println!(
        "everything is under data key {}",
        encryption.status().current_data_key
    );
    Ok(())
}
