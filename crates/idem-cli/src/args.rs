//! The command line: what each command takes, and the help that teaches it.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Idem: an edge-sync database. Documents on this machine, in step with every peer in reach.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "idem",
    version,
    propagate_version = true,
    subcommand_required = true,
    arg_required_else_help = true,
    max_term_width = 100,
    after_help = "\
First steps:
  idem demo                                          see two peers sync, conflict and agree
  idem shell --store ./data                          a prompt on a store (created if absent)
  idem query --store ./data \"SELECT * FROM cars\"     one statement, for scripts

Exit codes: 0 ok, 1 failed, 2 usage, 3 configuration, authentication or connection,
4 the store is open in another process.

Results go to stdout and nothing else does; progress, warnings and errors go to stderr."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,

    /// Print no progress and no hints on stderr; errors are still printed.
    #[arg(long, short, global = true)]
    pub quiet: bool,

    /// Print what the peer does on stderr; repeat for more (-v info, -vv debug, -vvv trace).
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

/// The commands.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Show two peers that sync over TCP, disagree offline and agree again, with figures.
    Demo(DemoArgs),
    /// Open a prompt on a store, or drive a peer by JSON lines with --jsonl.
    Shell(ShellArgs),
    /// Run one DQL statement and print its result.
    Query(QueryArgs),
    /// Read documents from NDJSON, a JSON array or CSV into a collection.
    Import(ImportArgs),
    /// Write a collection or the result of a query as NDJSON, a JSON array or CSV.
    Export(ExportArgs),
    /// Run a peer without a prompt that syncs until it is stopped; events on stdout as JSON lines.
    Peer(PeerArgs),
    /// Make, show and rotate the keys of encrypted stores.
    Keys(KeysArgs),
    /// Decide which peers belong to a database: issue, renew and revoke certificates.
    Authority(AuthorityArgs),
    /// Check the store and this machine, and say what to do about what is not right.
    Doctor(DoctorArgs),
    /// Simulate many peers with faults in one process, and check what sync promises.
    Sim(SimArgs),
    /// Print the completion script of a shell.
    Completions(CompletionsArgs),
}

/// Where the documents are.
#[derive(Debug, Clone, Args)]
#[group(id = "store_choice", multiple = false)]
pub struct StoreArgs {
    /// Directory of the store; created if absent. One process at a time may have it open.
    #[arg(
        long,
        short,
        value_name = "DIR",
        env = "IDEM_STORE",
        default_value = ".idem"
    )]
    pub store: PathBuf,

    /// Keep everything in memory; nothing is left afterwards.
    #[arg(long)]
    pub memory: bool,

    #[command(flatten)]
    pub key: StoreKeyArgs,
}

/// The key of an encrypted store.
#[derive(Debug, Clone, Args, Default)]
pub struct StoreKeyArgs {
    /// Encrypt the store with the key in this file, which `idem keys new` makes. A store is encrypted
    /// from the beginning or not at all.
    #[arg(long, value_name = "FILE", env = "IDEM_STORE_KEY_FILE")]
    pub store_key_file: Option<PathBuf>,
}

/// What a peer needs beside its store in order to sync.
#[derive(Debug, Clone, Args, Default)]
pub struct DatabaseArgs {
    /// The database that this peer belongs to: a UUID, or any name (peers with the same name meet).
    #[arg(long, value_name = "NAME", env = "IDEM_DATABASE")]
    pub database: Option<String>,

    /// The secret that all peers of the database share. Prefer the environment variable or
    /// --shared-key-file: other users of this machine can see command lines.
    #[arg(
        long,
        value_name = "SECRET",
        env = "IDEM_SHARED_KEY",
        hide_env_values = true
    )]
    pub shared_key: Option<String>,

    /// Read the shared key from the first line of this file.
    #[arg(long, value_name = "FILE", conflicts_with = "shared_key")]
    pub shared_key_file: Option<PathBuf>,

    /// Link only with peers that show a certificate signed with this key, and show one too (--certificate). Repeat it for
    /// more, the most trusted first, the same on every peer. `idem authority new` makes one.
    #[arg(
        long,
        value_name = "KEY",
        env = "IDEM_AUTHORITY",
        value_delimiter = ','
    )]
    pub authority: Vec<String>,

    /// The certificate of this peer, as `idem authority issue` writes it. The store keeps it.
    #[arg(
        long,
        value_name = "FILE",
        env = "IDEM_CERTIFICATE",
        requires = "authority"
    )]
    pub certificate: Option<PathBuf>,

    /// Take what an authority signed, from this file: revocations, a change of authorities, a time. The store keeps it and
    /// other peers hear of it; repeat for more.
    #[arg(long, value_name = "FILE", requires = "authority")]
    pub trust: Vec<PathBuf>,

    /// Sync with whoever has the same token. For playgrounds: it is no secret, and each start says so.
    #[arg(
        long,
        value_name = "TOKEN",
        conflicts_with_all = ["shared_key", "shared_key_file", "authority"]
    )]
    pub development_token: Option<String>,
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Aligned columns, for people.
    Table,
    /// One indented JSON array.
    Json,
    /// One JSON object a line, as it comes.
    Jsonl,
    /// Comma-separated with a header line; nested values as JSON text.
    Csv,
}

/// A form of documents in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FileFormat {
    /// One JSON object a line.
    #[value(alias = "jsonl")]
    Ndjson,
    /// One array of JSON objects.
    Json,
    /// A header line with the field names, then one document a line.
    Csv,
}

/// What a commit promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DurabilityChoice {
    /// Acknowledged means on disk: it survives power loss.
    Durable,
    /// Acknowledged means handed to the operating system: it survives a kill, not power loss.
    Relaxed,
}

/// What an import does with a document whose `_id` exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OnConflict {
    /// Stop; nothing of the batch that holds it is kept.
    Fail,
    /// Keep the stored document. An interrupted import resumes with this.
    Nothing,
    /// Set the fields that the file gives.
    Update,
    /// Set the fields that the file gives, and only where they differ: nothing travels for the rest.
    UpdateLocalDiff,
}

/// Arguments of `idem demo`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  idem demo                    watch it; takes well under a minute
  idem demo --json             the measured figures as one object on stdout
  idem demo --keep             leave the two stores behind and say where

Exit code 1 if anything that the demo claims did not hold.")]
pub struct DemoArgs {
    /// Print the figures as one JSON object on stdout; the story still goes to stderr.
    #[arg(long)]
    pub json: bool,

    /// Keep the stores of the two peers and print where they are.
    #[arg(long)]
    pub keep: bool,
}

/// Arguments of `idem shell`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  idem shell --store ./data
  idem shell --memory
  echo '{\"statement\": \"SELECT * FROM cars\"}' | idem shell --jsonl --store ./data

At the prompt a statement ends with a semicolon; .help lists the other commands. With --jsonl every
line of stdin is one JSON request and every answer is one line of stdout (docs/cli.md, \"JSON lines\").")]
pub struct ShellArgs {
    /// Where the documents are.
    #[command(flatten)]
    pub store: StoreArgs,

    /// The database to sync with.
    #[command(flatten)]
    pub database: DatabaseArgs,

    /// One JSON request a line on stdin, one JSON answer a line on stdout.
    #[arg(long)]
    pub jsonl: bool,

    /// What a commit promises.
    #[arg(long, value_enum, default_value = "durable")]
    pub durability: DurabilityChoice,

    /// How results are printed at the prompt; a table on a terminal, JSON lines elsewhere.
    #[arg(long, short, value_enum)]
    pub format: Option<Format>,
}

/// Arguments of `idem query`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  idem query \"SELECT color, COUNT(*) AS n FROM cars GROUP BY color\"
  idem query \"SELECT * FROM cars WHERE _id = :id\" --args '{\"id\": \"a\"}' --format json
  idem query \"UPDATE cars SET color = 'red' WHERE _id = 'a'\"
  idem query - < statement.dql

Statements that change documents print what they changed on stderr; their items go to stdout.")]
pub struct QueryArgs {
    /// The statement; `-` reads it from stdin.
    #[arg(value_name = "STATEMENT")]
    pub statement: String,

    /// Values of the statement's :parameters, as one JSON object.
    #[arg(long, short, value_name = "JSON")]
    pub args: Option<String>,

    /// How results are printed: table on a terminal, JSON lines elsewhere.
    #[arg(long, short, value_enum)]
    pub format: Option<Format>,

    /// Where the documents are.
    #[command(flatten)]
    pub store: StoreArgs,
}

/// Arguments of `idem import`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  idem import cars.ndjson --collection cars
  idem import cars.csv --collection cars --id-field plate --csv-types
  zcat big.ndjson.gz | idem import - --collection events --on-conflict nothing
  idem import messy.ndjson --collection events --skip-bad rejected.ndjson

The file is read as a stream. Each batch is one durable transaction: it is stored whole or not at all.
An interrupted import resumes with --on-conflict nothing (or update): what is stored is passed over.
Without --id-field and _id every document gets a generated id, so a repeated import would add
everything twice.")]
pub struct ImportArgs {
    /// The file; `-` is stdin.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// The collection to write to.
    #[arg(long, short, value_name = "NAME")]
    pub collection: String,

    /// Form of the file; told by its extension if absent (.ndjson .jsonl .json .csv), NDJSON for
    /// stdin.
    #[arg(long, short, value_enum)]
    pub format: Option<FileFormat>,

    /// What to do with a document whose _id exists.
    #[arg(long, value_enum, default_value = "fail")]
    pub on_conflict: OnConflict,

    /// Use the value of this field as _id. The field itself stays.
    #[arg(long, value_name = "FIELD")]
    pub id_field: Option<String>,

    /// Documents a transaction.
    #[arg(long, value_name = "N", default_value_t = 500,
          value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub batch: u32,

    /// Keep going at documents that cannot be stored, and write each with its line and the reason to
    /// this file as NDJSON. Exit code 0 even if some were bad; the summary says how many.
    #[arg(long, value_name = "FILE")]
    pub skip_bad: Option<PathBuf>,

    /// CSV: read numbers, true, false and null as such, and leave empty cells out. Without it every
    /// cell is a string.
    #[arg(long)]
    pub csv_types: bool,

    /// CSV: the byte between cells.
    #[arg(long, value_name = "CHAR", default_value = ",")]
    pub csv_delimiter: char,

    /// Where the documents are.
    #[command(flatten)]
    pub store: StoreArgs,

    /// What a commit promises.
    #[arg(long, value_enum, default_value = "durable")]
    pub durability: DurabilityChoice,
}

/// Arguments of `idem export`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  idem export --collection cars -o cars.ndjson
  idem export --query \"SELECT _id, color FROM cars WHERE year > 2000\" --format csv
  idem export --collection cars | idem import - --collection cars --store ./copy")]
#[command(group = clap::ArgGroup::new("what").required(true).args(["query", "collection"]))]
pub struct ExportArgs {
    /// Export the result of this SELECT.
    #[arg(long, value_name = "STATEMENT")]
    pub query: Option<String>,

    /// Values of the query's :parameters, as one JSON object.
    #[arg(long, short, value_name = "JSON", requires = "query")]
    pub args: Option<String>,

    /// Export every document of this collection.
    #[arg(long, short, value_name = "NAME")]
    pub collection: Option<String>,

    /// Form of the output; told by the extension of --output if absent, NDJSON otherwise.
    #[arg(long, short, value_enum)]
    pub format: Option<FileFormat>,

    /// Write to this file instead of stdout. It appears when it is complete.
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// Where the documents are.
    #[command(flatten)]
    pub store: StoreArgs,
}

/// Arguments of `idem peer`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  IDEM_DATABASE=shop IDEM_SHARED_KEY=.. idem peer --subscribe \"SELECT * FROM cars\"
  IDEM_DATABASE=shop IDEM_SHARED_KEY=.. idem peer --store ./a --listen 0.0.0.0:4040 --mdns \\
      --subscribe \"SELECT * FROM cars\"
  IDEM_DATABASE=shop IDEM_SHARED_KEY=.. idem peer --store ./b --connect 10.0.0.5:4040 \\
      --connect ws://example.org:8080 --subscribe \"SELECT * FROM cars\"

Without --listen, --listen-http and --connect, peers of the same database on the networks of this
machine find each other by themselves.

Stops cleanly at SIGTERM and Ctrl-C. A peer sends what other peers subscribe to, and asks for what it
subscribes to itself.")]
pub struct PeerArgs {
    /// Where the documents are.
    #[command(flatten)]
    pub store: StoreArgs,

    /// The database to sync with.
    #[command(flatten)]
    pub database: DatabaseArgs,

    /// Accept links at this address; port 0 takes a free one. The event `listening` names it.
    #[arg(long, value_name = "HOST:PORT")]
    pub listen: Option<String>,

    /// Accept links by WebSocket at this address, at the path /_idem/v1/sync.
    #[arg(long, value_name = "HOST:PORT")]
    pub listen_http: Option<String>,

    /// Have whoever connects to --listen-http begin TLS, as for wss://, and show it the certificate in this file
    /// (PEM, with those between it and an authority).
    #[arg(
        long,
        value_name = "FILE",
        requires = "listen_http",
        requires = "tls_key"
    )]
    pub tls_certificate: Option<PathBuf>,

    /// The private key of the certificate (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    pub tls_key: Option<PathBuf>,

    /// Have servers of wss:// be certified by an authority of this file (PEM), and not by those that the
    /// system trusts.
    #[arg(long, value_name = "FILE")]
    pub ca_certificate: Option<PathBuf>,

    /// Accept links over the internet (QUIC) at this address, as 0.0.0.0:4040. The event `listening` names what
    /// others connect to. Needs a build with the feature `internet`.
    #[arg(long, value_name = "IP:PORT")]
    pub listen_internet: Option<String>,

    /// Use the relay server at this URL for links over the internet; repeat for more. No other relay is used.
    #[arg(long, value_name = "URL")]
    pub relay_url: Vec<String>,

    /// Keep a link to the peer at this address, by WebSocket if it is a URL that begins with ws:// or
    /// wss://, over the internet if it begins with iroh:; repeat for more.
    #[arg(long, value_name = "HOST:PORT|URL")]
    pub connect: Vec<String>,

    /// Find peers of the same database on the networks of this machine, and be found by them (mDNS).
    /// This is on where no address is given.
    #[arg(long, overrides_with = "no_mdns")]
    pub mdns: bool,

    /// Do not look for peers on the networks of this machine, and say nothing there.
    #[arg(long)]
    pub no_mdns: bool,

    /// Link with peers of the same database in reach of this machine's Bluetooth, without pairing. Needs a
    /// build with the feature `ble`, and has not been used with a real radio yet.
    #[arg(long)]
    pub bluetooth: bool,

    /// Be a gateway: take in what others bring, from further away than other peers. It gets what it subscribes
    /// to, so say with --subscribe what that is.
    #[arg(long)]
    pub gateway: bool,

    /// Ask other peers for the documents of this SELECT; repeat for more.
    #[arg(long, value_name = "QUERY")]
    pub subscribe: Vec<String>,

    /// Have so many links at most; others are told that there is no room.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub links_max: u16,

    /// Show links, the mesh and events on the whole terminal, instead of events as JSON lines.
    #[arg(long)]
    pub tui: bool,

    /// What a commit promises.
    #[arg(long, value_enum, default_value = "durable")]
    pub durability: DurabilityChoice,
}

/// Arguments of `idem doctor`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  idem doctor
  idem doctor --store ./data --format json
  idem doctor --store ./data --database shop --authority KEY --connect 10.0.0.7:4040
                                                 why there is no link, in words

Exit code 0 if nothing failed (warnings are allowed), 4 if the store is open in another process, 1
otherwise.")]
pub struct DoctorArgs {
    /// How results are printed: table on a terminal, JSON lines elsewhere.
    #[arg(long, short, value_enum)]
    pub format: Option<Format>,

    /// Where the documents are.
    #[command(flatten)]
    pub store: StoreArgs,

    /// The database that links are tried for.
    #[command(flatten)]
    pub database: DatabaseArgs,

    /// Try a link with the peer at this address, as the peer of the store, and say why there is none; repeat for more.
    #[arg(long, value_name = "HOST:PORT|URL")]
    pub connect: Vec<String>,
}

/// Arguments of `idem sim`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  idem sim                                       a few peers and a bit of everything that goes wrong
  idem sim --scenario ble --seed 7 --svg ble.svg   one run over Bluetooth links, and its curve
  idem sim --scenario churn --seeds 200            many runs; the seeds that fail are named
  idem sim --show lan > mine.toml                  a file to begin with
  idem sim --scenario mine.toml --peers 1000

The same scenario, number of peers and seed give the same run, frame by frame. Exit code 1 if a
checker found a broken promise.")]
pub struct SimArgs {
    /// A scenario file (docs/simulator.md), or the name of one that comes along: mixed, lan, ble,
    /// partition, churn, backup, hostile, skew, absence, links.
    #[arg(long, value_name = "FILE|NAME", default_value = "mixed")]
    pub scenario: String,

    /// The number of honest peers, in place of what the scenario says. In `mixed` the seed decides.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=20_000))]
    pub peers: Option<u32>,

    /// The first seed. Chosen by the clock if absent, and printed.
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,

    /// How many seeds to run, one after the other.
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub seeds: u64,

    /// Draw the convergence curve of the first seed as an SVG picture: the share of (peer, write) pairs
    /// that were delivered, over time.
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,

    /// How the report is printed: a table on a terminal, one JSON line for each seed elsewhere.
    #[arg(long, short, value_enum)]
    pub format: Option<Format>,

    /// Print the file of a scenario that comes along, and do nothing else.
    #[arg(long, value_name = "NAME", exclusive = true)]
    pub show: Option<String>,
}

/// Arguments of `idem completions`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  idem completions bash > ~/.local/share/bash-completion/completions/idem
  idem completions zsh > ~/.zfunc/_idem
  idem completions fish > ~/.config/fish/completions/idem.fish")]
pub struct CompletionsArgs {
    /// The shell to complete in.
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

/// `idem keys`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  idem keys new ./store.key                                  a key file, readable by you only
  idem shell --store ./data --store-key-file ./store.key     a new store with it is encrypted
  idem keys show --store ./data                              ids and progress, never a secret
  idem keys rotate --store ./data --store-key-file ./store.key
                                                             everything under a new data key
  idem keys rotate --store ./data --store-key-file ./store.key --new-key-file ./other.key
                                                             lock the store with another key file

The key file opens the store; the store's own data keys lie in its file `idem.keys`, wrapped under it. Keep a copy
of the key file elsewhere: without it nobody can read the store. Deleting idem.keys, or every copy of the key
file, wipes the store for good. A store that is not encrypted is copied into one that is with `idem export` and
`idem import`.")]
pub struct KeysArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: KeysCommand,
}

/// What `idem keys` does.
#[derive(Debug, Clone, Subcommand)]
pub enum KeysCommand {
    /// Make a key file. One that is there is never overwritten.
    New {
        /// Where to write it.
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Say whether a store is encrypted, how, and how far a rotation is. It may be open, and needs no key.
    Show {
        /// Directory of the store.
        #[arg(
            long,
            short,
            value_name = "DIR",
            env = "IDEM_STORE",
            default_value = ".idem"
        )]
        store: PathBuf,
    },
    /// Print the key of the peer whose store it is, which certificates name. The store must not be open elsewhere.
    Peer {
        /// Where the documents are.
        #[command(flatten)]
        store: StoreArgs,
    },
    /// Encrypt everything in a store under a new data key, or lock it with another key file.
    ///
    /// It can be interrupted at any time: the next opening of the store goes on in the background.
    Rotate {
        /// Directory of the store.
        #[arg(
            long,
            short,
            value_name = "DIR",
            env = "IDEM_STORE",
            default_value = ".idem"
        )]
        store: PathBuf,

        #[command(flatten)]
        key: StoreKeyArgs,

        /// Lock the store with the key in this file from now on. Data stays as it is.
        #[arg(long, value_name = "FILE")]
        new_key_file: Option<PathBuf>,
    },
}

/// `idem authority`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  idem authority new shop.authority --database shop       once; prints the KEY of the authority
  idem keys peer --store ./till                           the key of a peer, PEER
  idem authority issue shop.authority --peer PEER --user till-7 --out till-7.certificate
  idem peer --store ./till --database shop --authority KEY --certificate till-7.certificate
  idem authority revoke shop.authority --peer PEER --out revoked
  idem peer --store ./office --database shop --authority KEY --trust revoked
                                                          any peer passes it on to all

The file of an authority is a secret. It also remembers what was revoked: use one copy, and keep a backup. A change
of authorities (rotate) needs no day on which nothing works: both are trusted meanwhile. docs/auth.md goes
through each step.")]
pub struct AuthorityArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: AuthorityCommand,
}

/// What `idem authority` does.
#[derive(Debug, Clone, Subcommand)]
pub enum AuthorityCommand {
    /// Make the first authority of a database, and print its key. A file that is there is never overwritten.
    New {
        /// Where to write it.
        #[arg(value_name = "FILE")]
        file: PathBuf,

        /// The database: a UUID, or any name.
        #[arg(long, value_name = "NAME", env = "IDEM_DATABASE")]
        database: String,
    },
    /// Say which keys are trusted and how many revocations there are. Nothing that is shown is secret.
    Show {
        /// The file of the authority.
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Sign a certificate for a peer, which grants everything.
    Issue {
        /// The file of the authority.
        #[arg(value_name = "FILE")]
        file: PathBuf,

        /// The key of the peer, which alone can use it.
        #[arg(long, value_name = "KEY")]
        peer: String,

        /// For whom the peer acts.
        #[arg(long, value_name = "NAME")]
        user: String,

        /// For how many days it counts.
        #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=3650))]
        days: u32,

        /// What is said of the user, as a JSON object.
        #[arg(long, value_name = "JSON")]
        claims: Option<String>,

        /// Write it into this file, and not to stdout.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Take back the certificates of peers or users that were issued until now.
    Revoke(RevokeArgs),
    /// Make a second authority that takes over from this one.
    Rotate {
        /// The file of the authority.
        #[arg(value_name = "FILE")]
        file: PathBuf,

        /// Where to write the new one.
        #[arg(long, value_name = "FILE")]
        next: PathBuf,

        /// For how many days both count: until all certificates are renewed.
        #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(0..=3650))]
        overlap_days: u32,

        /// Write the change into this file, and not to stdout.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Sign what time it is, for peers whose clock cannot be trusted.
    Time {
        /// The file of the authority.
        #[arg(value_name = "FILE")]
        file: PathBuf,

        /// Write it into this file, and not to stdout.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
}

/// Arguments of `idem authority revoke`.
#[derive(Debug, Clone, Args)]
#[group(id = "revoked", required = true, multiple = true, args = ["peer", "user", "serial"])]
pub struct RevokeArgs {
    /// The file of the authority. It remembers what is revoked.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// The key of a peer; repeat for more.
    #[arg(long, value_name = "KEY")]
    pub peer: Vec<String>,

    /// A user; repeat for more.
    #[arg(long, value_name = "NAME")]
    pub user: Vec<String>,

    /// The serial of one certificate; repeat for more.
    #[arg(long, value_name = "HEX")]
    pub serial: Vec<String>,

    /// Write the list into this file, and not to stdout.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}
