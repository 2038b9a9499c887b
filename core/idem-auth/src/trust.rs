//! All that a peer knows of whom its database trusts, and what follows for a certificate.

use std::collections::BTreeMap;

use idem_model::{PeerId, limits};

use crate::{
    authorities::{Authorities, AuthoritiesError, AuthorityChange, ChangeTaken},
    certificate::SignedCertificate,
    clock::TimeBeacon,
    revocation::{RevocationError, RevocationList, Revocations},
    signed::AuthorityKey,
    verdict::{ClockNote, Refused, Verdict},
};

/// Authorities, revocations and signed time of one database.
///
/// What is taken in here only ever adds up: a list of an older epoch, an earlier time or a change that others outrank
/// changes nothing. So it does not matter in which order, from whom or how often anything arrives.
#[derive(Clone, Debug)]
pub struct Trust {
    authorities: Authorities,
    revocations: Revocations,
    /// The latest time that each of the authorities signed.
    signed_ms: BTreeMap<AuthorityKey, u64>,
    grace_ms: u64,
}

/// Why a signed time is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TrustError {
    /// It is for another database.
    #[error("the signed time is for another database")]
    OtherDatabase,
    /// Who signed it is no authority.
    #[error("the time is signed by {issuer}, which the database does not trust")]
    NotTrusted {
        /// The key.
        issuer: AuthorityKey,
    },
    /// The signature is not that of the key that it names.
    #[error("the signature of the time is wrong")]
    Signature,
}

impl Trust {
    /// Begins with authorities, without revocations, and with [`limits::CERTIFICATE_GRACE_MS`] of grace.
    pub fn new(authorities: Authorities) -> Self {
        Self {
            authorities,
            revocations: Revocations::default(),
            signed_ms: BTreeMap::new(),
            grace_ms: limits::CERTIFICATE_GRACE_MS,
        }
    }

    /// The same with another grace: by how many milliseconds clocks may differ before a certificate counts as
    /// expired, or as not valid yet. What is revoked has none.
    #[must_use]
    pub fn with_grace_ms(mut self, grace_ms: u64) -> Self {
        self.grace_ms = grace_ms;
        self
    }

    /// Which keys are trusted.
    pub fn authorities(&self) -> &Authorities {
        &self.authorities
    }

    /// What is revoked.
    pub fn revocations(&self) -> &Revocations {
        &self.revocations
    }

    /// The latest time that an authority signed, 0 if none was seen: it is later now. What a key signed does not count
    /// when it is not trusted any more, so that a thief's times go with the stolen key.
    pub fn latest_signed_ms(&self) -> u64 {
        self.signed_times().map(|(_, ms)| ms).max().unwrap_or(0)
    }

    /// The latest time that each authority signed. The owner keeps them over restarts, and gives them back with
    /// [`Trust::remember`].
    pub fn signed_times(&self) -> impl Iterator<Item = (AuthorityKey, u64)> {
        let times = self.signed_ms.iter();
        times
            .map(|(key, ms)| (*key, *ms))
            .filter(|(key, _)| self.authorities.find(key).is_some())
    }

    /// Goes on from a time that an authority was seen to sign in an earlier life of this peer.
    pub fn remember(&mut self, authority: AuthorityKey, signed_ms: u64) {
        let known = self.signed_ms.entry(authority).or_default();
        *known = signed_ms.max(*known);
        // As many as there are authorities.
        self.signed_ms
            .retain(|key, _| self.authorities.find(key).is_some());
    }

    /// Begins with authorities of an earlier life.
    pub(crate) fn set_authorities(&mut self, authorities: Authorities) {
        self.authorities = authorities;
    }

    /// Takes a change of authorities.
    ///
    /// # Errors
    /// As [`Authorities::accept`].
    pub fn handle_change(
        &mut self,
        change: AuthorityChange,
    ) -> Result<ChangeTaken, AuthoritiesError> {
        let (issuer, issued_at_ms) = (change.issuer(), change.issued_at_ms());
        let taken = self.authorities.accept(change)?;
        self.remember(issuer, issued_at_ms);
        Ok(taken)
    }

    /// Takes a revocation list. `true` if something in it is new, so that permits in use are to be judged again.
    ///
    /// # Errors
    /// As [`Revocations::accept`].
    pub fn handle_revocations(&mut self, list: RevocationList) -> Result<bool, RevocationError> {
        let (issuer, issued_at_ms) = (list.issuer(), list.issued_at_ms());
        let is_taken = self.revocations.accept(list, &self.authorities)?;
        self.remember(issuer, issued_at_ms);
        Ok(is_taken)
    }

    /// Takes a signed time. `true` if it is later than what was known.
    ///
    /// # Errors
    /// [`TrustError`] if no authority signed it.
    pub fn handle_beacon(&mut self, beacon: &TimeBeacon) -> Result<bool, TrustError> {
        if beacon.database() != self.authorities.database() {
            return Err(TrustError::OtherDatabase);
        }
        let issuer = beacon.issuer();
        if self.authorities.find(&issuer).is_none() {
            return Err(TrustError::NotTrusted { issuer });
        }
        if !beacon.signature_holds() {
            return Err(TrustError::Signature);
        }
        let is_later = beacon.time_ms() > self.latest_signed_ms();
        self.remember(issuer, beacon.time_ms());
        Ok(is_later)
    }

    /// Judges the certificate that a peer shows, and learns from it how late it is at least.
    pub fn handle_certificate(
        &mut self,
        signed: &SignedCertificate,
        shown_by: &PeerId,
        now_ms: u64,
    ) -> Verdict {
        if self.check_origin(signed, shown_by).is_ok() {
            self.remember(signed.issuer(), signed.certificate().issued_at_ms);
        }
        self.judge(signed, shown_by, now_ms)
    }

    /// Whether the certificate of a peer counts at `now_ms`, the reading of this peer's clock. Costs a
    /// verification; [`Trust::judge_again`] does not.
    pub fn judge(&self, signed: &SignedCertificate, shown_by: &PeerId, now_ms: u64) -> Verdict {
        match self.check_origin(signed, shown_by) {
            Ok(()) => self.judge_again(signed, now_ms),
            Err(refused) => Verdict::Refused(refused),
        }
    }

    /// As [`Trust::judge`] for a certificate that was judged before by this peer, when time went by or something
    /// new is known: its signature and its holder are not looked at.
    pub fn judge_again(&self, signed: &SignedCertificate, now_ms: u64) -> Verdict {
        match self.check_present(signed, now_ms) {
            Ok(verdict) => verdict,
            Err(refused) => Verdict::Refused(refused),
        }
    }

    /// What does not change with time: where it comes from, and whose it is.
    fn check_origin(&self, signed: &SignedCertificate, shown_by: &PeerId) -> Result<(), Refused> {
        let certificate = signed.certificate();
        let (ours, theirs) = (self.authorities.database(), certificate.database);
        if ours != theirs {
            return Err(Refused::OtherDatabase { ours, theirs });
        }
        if certificate.subject != *shown_by {
            return Err(Refused::OtherSubject {
                subject: certificate.subject,
                shown_by: *shown_by,
            });
        }
        self.check_issuer(signed)?;
        match signed.signature_holds() {
            true => Ok(()),
            false => Err(Refused::Signature),
        }
    }

    fn check_issuer(&self, signed: &SignedCertificate) -> Result<(), Refused> {
        let issuer = signed.issuer();
        let Some(authority) = self.authorities.find(&issuer) else {
            return Err(match self.authorities.was_removed(&issuer) {
                true => Refused::RemovedAuthority { issuer },
                false => Refused::UnknownAuthority { issuer },
            });
        };
        let issued_at_ms = signed.certificate().issued_at_ms;
        match (authority.from_ms..=authority.until_ms).contains(&issued_at_ms) {
            true => Ok(()),
            false => Err(Refused::IssuedOutsideTrust { issuer }),
        }
    }

    fn check_present(&self, signed: &SignedCertificate, now_ms: u64) -> Result<Verdict, Refused> {
        self.check_issuer(signed)?;
        let certificate = signed.certificate();
        let issuer = signed.issuer();
        let authority = self.authorities.find(&issuer);
        let authority = authority.ok_or(Refused::UnknownAuthority { issuer })?;
        // A clock that is behind what was signed is wrong; one that is ahead may be right.
        let at_ms = now_ms.max(self.latest_signed_ms());
        // What is spared for a while after its end stays revoked for as long.
        let spared_ms = at_ms.saturating_sub(self.grace_ms);
        let found = self
            .revocations
            .find(certificate, &self.authorities, spared_ms);
        if let Some(by) = found {
            return Err(Refused::Revoked(by));
        }
        let clock = self.clock_note(now_ms);
        let from_ms = certificate.not_before_ms.max(authority.from_ms);
        if at_ms.saturating_add(self.grace_ms) < from_ms {
            let in_ms = from_ms - at_ms;
            return Err(Refused::NotYetValid { in_ms, clock });
        }
        let until_ms = certificate.not_after_ms.min(authority.until_ms);
        let ago_ms = at_ms.saturating_sub(until_ms);
        if ago_ms > self.grace_ms {
            return Err(Refused::Expired {
                ago_ms,
                by_authority: until_ms < certificate.not_after_ms,
                clock,
            });
        }
        Ok(Verdict::Holds {
            until_ms,
            in_grace_ms: (ago_ms > 0).then_some(ago_ms),
        })
    }

    fn clock_note(&self, now_ms: u64) -> ClockNote {
        let latest = self.latest_signed_ms();
        match latest {
            0 => ClockNote::Unknown,
            _ if now_ms < latest => ClockNote::BehindMs(latest - now_ms),
            _ => ClockNote::AheadMs(now_ms - latest),
        }
    }
}
