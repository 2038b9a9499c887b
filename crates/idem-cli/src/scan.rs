//! Every document of a collection at one moment, one by one.

use std::ops::ControlFlow;

use idem::{Idem, Object, Transaction, TransactionOptions};

use crate::{exit::CliError, opening::peer_error};

/// A collection as it was when the scan was opened.
pub(crate) struct CollectionScan<'a> {
    transaction: Transaction,
    collection: &'a str,
}

impl<'a> CollectionScan<'a> {
    /// Takes the moment.
    pub(crate) fn open(idem: &Idem, collection: &'a str) -> Result<Self, CliError> {
        let transaction = idem
            .store()
            .begin_blocking(TransactionOptions::new().read_only(true).hint("export"))
            .map_err(|error| peer_error("cannot read the store", error))?;
        Ok(Self {
            transaction,
            collection,
        })
    }

    /// Calls `visit` with the documents in the order of their ids; its first error ends the scan.
    pub(crate) fn for_each(
        &self,
        mut visit: impl FnMut(&Object) -> Result<(), CliError>,
    ) -> Result<(), CliError> {
        let mut failed = None;
        let scanned =
            self.transaction
                .scan_blocking(self.collection, |document| match visit(&document) {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(error) => {
                        failed = Some(error);
                        ControlFlow::Break(())
                    }
                });
        scanned.map_err(|error| peer_error("cannot read the collection", error))?;
        failed.map_or(Ok(()), Err)
    }
}
