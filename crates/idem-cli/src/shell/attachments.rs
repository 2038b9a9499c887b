//! The commands for files beside documents.

use std::{path::Path, time::Duration};

use idem::{AttachmentFetchEvent, AttachmentMetadata, AttachmentToken, Object, Value};

use super::Shell;
use crate::{exit::CliError, opening::peer_error};

/// How long one look at a fetch takes. It goes on until it ends.
const LOOK: Duration = Duration::from_secs(3600);

/// Stores a file. Gives the token as it can stand in a statement.
pub(super) fn attach(shell: &mut Shell, path: &str) -> Result<String, CliError> {
    let mut metadata = AttachmentMetadata::new();
    if let Some(name) = Path::new(path).file_name() {
        metadata.insert("name".to_owned(), name.to_string_lossy().into_owned());
    }
    let made = shell.idem.store().new_attachment_blocking(path, metadata);
    let made = made.map_err(|error| peer_error("the file is not attached", error))?;
    let token = serde_json::to_string(made.token()).expect("names and texts are JSON");
    // Until it is in a document, or the shell ends.
    shell.attachments.push(made);
    shell
        .talk
        .note("put this into a document, in a field declared ATTACHMENT, within an hour");
    Ok(format!("{token}\n"))
}

/// Brings the content with this id and length here and writes it to a file.
pub(super) fn fetch(shell: &Shell, words: &[&str]) -> Result<(), CliError> {
    let [id, len, path] = words else {
        return Err(CliError::usage(".fetch needs an id, a length and a file")
            .hint("SELECT photo.id, photo.len FROM cars shows them"));
    };
    let len = len
        .parse()
        .map_err(|_| CliError::usage(format!("{len:?} is no length")))?;
    let fields = Object::from([
        ("id".to_owned(), Value::String((*id).to_owned())),
        ("len".to_owned(), Value::Int(len)),
    ]);
    let failed = |error| peer_error("the attachment does not come", error);
    let token = AttachmentToken::from_value(&Value::Object(fields)).map_err(failed)?;
    let talk = shell.talk;
    let told = move |event| {
        if let AttachmentFetchEvent::Progress { downloaded, total } = event {
            talk.note(&format!("{downloaded} of {total} bytes"));
        }
    };
    let fetch = shell.idem.store().fetch_attachment(&token, told);
    let fetch = fetch.map_err(failed)?;
    let attachment = fetch.wait_blocking(LOOK).map_err(failed)?;
    attachment.copy_to_blocking(path).map_err(failed)?;
    shell.talk.note(&format!("written to {path}"));
    Ok(())
}
