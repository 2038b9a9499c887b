//! `idem authority`: who decides which peers belong to a database.

use std::{
    fs,
    io::Write as _,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use idem::{
    CertificateRequest, CertificateSerial, DatabaseAuthority, DatabaseId, Object, PeerId,
    RevokedId, SignedText, Value,
};

use crate::{
    args::{AuthorityArgs, AuthorityCommand, RevokeArgs},
    exit::{CliError, ExitStatus},
    opening::{database_id, peer_error},
    program::Talk,
};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Runs the command.
pub(crate) fn run(args: &AuthorityArgs, talk: Talk) -> Result<(), CliError> {
    match &args.command {
        AuthorityCommand::New { file, database } => new(file, database_id(database), talk),
        AuthorityCommand::Show { file } => show(file),
        AuthorityCommand::Issue {
            file,
            peer,
            user,
            days,
            claims,
            out,
        } => {
            let request = CertificateRequest::new(peer_key(peer)?, user.as_str());
            let request = request.lasting(DAY * *days);
            let request = match claims {
                Some(claims) => request.with_claims(object(claims)?),
                None => request,
            };
            let certificate = open(file)?.issue(request);
            let certificate = certificate.map_err(|e| peer_error("cannot issue", e))?;
            let what = "show it with --certificate, or hand it to a running peer with --trust";
            put(
                SignedText::Certificate(certificate),
                out.as_deref(),
                what,
                talk,
            )
        }
        AuthorityCommand::Revoke(args) => revoke(args, talk),
        AuthorityCommand::Rotate {
            file,
            next,
            overlap_days,
            out,
        } => {
            let mut authority = open(file)?;
            refuse_existing(next)?;
            let failed = |error| peer_error("cannot hand over", error);
            let mut other = DatabaseAuthority::generate_beside(&authority).map_err(failed)?;
            let overlap = DAY * *overlap_days;
            let change = authority.rotate_to(&mut other, overlap).map_err(failed)?;
            write(&other, next)?;
            write(&authority, file)?;
            let what = "hand it to any peer with --trust; the others hear of it";
            put(SignedText::Authorities(change), out.as_deref(), what, talk)
        }
        AuthorityCommand::Time { file, out } => {
            let what = "hand it to any peer with --trust; the others hear of it";
            put(
                SignedText::Time(open(file)?.time()),
                out.as_deref(),
                what,
                talk,
            )
        }
    }
}

fn open(file: &Path) -> Result<DatabaseAuthority, CliError> {
    DatabaseAuthority::from_file(file).map_err(|error| {
        peer_error("cannot use the authority", error)
            .hint("`idem authority new FILE --database NAME` makes one")
    })
}

fn write(authority: &DatabaseAuthority, file: &Path) -> Result<(), CliError> {
    let written = authority.write_file(file);
    written.map_err(|error| peer_error("cannot keep the authority", error))
}

fn refuse_existing(file: &Path) -> Result<(), CliError> {
    match file.exists() {
        true => Err(
            CliError::failed(format!("{} is there already", file.display()))
                .hint("a file of an authority is never overwritten; choose another name"),
        ),
        false => Ok(()),
    }
}

fn new(file: &Path, database: DatabaseId, talk: Talk) -> Result<(), CliError> {
    refuse_existing(file)?;
    let authority = DatabaseAuthority::generate(database);
    let authority = authority.map_err(|error| peer_error("cannot make an authority", error))?;
    write(&authority, file)?;
    println!("{}", authority.key());
    talk.note("give this key to every peer, as --authority or IDEM_AUTHORITY");
    talk.note("keep the file where no device that syncs has it: whoever has it decides who belongs to the database");
    Ok(())
}

fn show(file: &Path) -> Result<(), CliError> {
    let authority = open(file)?;
    println!("database  {}", authority.database());
    println!("key       {}", authority.key());
    for key in authority.first_keys() {
        println!("first     {key}");
    }
    for trusted in authority.authorities().keys() {
        let until = match trusted.until_ms {
            idem::SIGNED_TIME_MS_MAX => "until it is removed".to_owned(),
            until_ms => format!("until {}", distance(until_ms)),
        };
        println!("trusted   {} {until}", trusted.key);
    }
    let revoked = authority.revocations();
    println!(
        "revoked   {}",
        revoked.map_or(0, |list| list.entries().len())
    );
    Ok(())
}

/// A time in words from now.
fn distance(at_ms: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now_ms = now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX));
    let words = idem::in_words(at_ms.abs_diff(now_ms));
    match at_ms < now_ms {
        true => format!("{words} ago"),
        false => format!("{words} from now"),
    }
}

fn revoke(args: &RevokeArgs, talk: Talk) -> Result<(), CliError> {
    let mut authority = open(&args.file)?;
    let database = authority.database();
    let mut ids = Vec::new();
    for peer in &args.peer {
        ids.push(RevokedId::peer(database, &peer_key(peer)?));
    }
    for user in &args.user {
        ids.push(RevokedId::user(database, user));
    }
    for serial in &args.serial {
        ids.push(RevokedId::certificate(database, &serial_of(serial)?));
    }
    let list = authority.revoke(&ids);
    let list = list.map_err(|error| peer_error("cannot revoke", error))?;
    write(&authority, &args.file)?;
    let what = "hand it to any peer with --trust; the others hear of it, and end their links";
    put(
        SignedText::Revocations(list),
        args.out.as_deref(),
        what,
        talk,
    )
}

/// Prints what was signed, or puts it into a file.
fn put(signed: SignedText, out: Option<&Path>, what: &str, talk: Talk) -> Result<(), CliError> {
    let line = signed.to_line();
    match out {
        None => println!("{line}"),
        Some(file) => {
            let written = fs::File::create(file).and_then(|mut it| writeln!(it, "{line}"));
            written.map_err(|source| {
                CliError::failed(format!("cannot write {}", file.display())).because(source)
            })?;
            println!("{}", file.display());
        }
    }
    talk.note(what);
    Ok(())
}

fn wrong(what: String) -> CliError {
    CliError::new(ExitStatus::Environment, what)
}

fn peer_key(text: &str) -> Result<PeerId, CliError> {
    text.parse().map_err(|_| {
        wrong(format!("{text:?} is not the key of a peer"))
            .hint("`idem keys peer --store DIR` prints that of a store: 64 hex digits")
    })
}

fn serial_of(text: &str) -> Result<CertificateSerial, CliError> {
    let bytes = u128::from_str_radix(text, 16).ok();
    let bytes = bytes.filter(|_| text.len() == 32);
    let invalid = || wrong(format!("{text:?} is not the serial of a certificate"));
    bytes
        .map(|bytes| CertificateSerial(bytes.to_be_bytes()))
        .ok_or_else(invalid)
}

fn object(text: &str) -> Result<Object, CliError> {
    match serde_json::from_str(text) {
        Ok(Value::Object(fields)) => Ok(fields),
        _ => Err(wrong(format!("{text:?} is not a JSON object"))),
    }
}
