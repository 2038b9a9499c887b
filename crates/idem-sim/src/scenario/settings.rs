//! The keys of a scenario file, with their defaults and ranges. docs/simulator.md describes them.

use serde::{Deserialize, Deserializer, de::Error};

/// The most honest peers of a run.
pub(crate) const PEERS_MAX: usize = 20_000;

/// The most peers that can all be neighbours.
const FULL_PEERS_MAX: u64 = 64;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Settings {
    pub(crate) about: String,
    #[serde(deserialize_with = "within::<2, 20_000, _>")]
    pub(crate) peers: u64,
    pub(crate) store: StoreKind,
    #[serde(deserialize_with = "within::<1, 1_000_000, _>")]
    pub(crate) rest_s_max: u64,
    pub(crate) topology: Topology,
    pub(crate) field: FieldSettings,
    pub(crate) links: Links,
    pub(crate) writes: Writes,
    pub(crate) faults: FaultSettings,
    pub(crate) absences: AbsenceSettings,
    pub(crate) scopes: ScopeSettings,
    pub(crate) relays: RelaySettings,
    pub(crate) windows: WindowSettings,
    pub(crate) attachments: AttachmentSettings,
    pub(crate) hostile: Hostile,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum StoreKind {
    Memory,
    Engine,
}

/// Who is beside whom.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum TopologyKind {
    /// At random, all connected.
    Mesh,
    /// In a row.
    Chain,
    /// All beside the first one.
    Star,
    /// Everybody beside everybody.
    Full,
    /// At places in a plane, and linked as their meshes choose.
    Field,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Topology {
    pub(crate) kind: TopologyKind,
    #[serde(deserialize_with = "within::<2, 32, _>")]
    pub(crate) degree: u64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Links {
    #[serde(deserialize_with = "range::<1, 60_000_000, _>")]
    pub(crate) latency_us: [u64; 2],
    #[serde(deserialize_with = "within::<0, 100_000_000, _>")]
    pub(crate) bandwidth_kbit_s: u64,
    #[serde(deserialize_with = "optional::<0, 100_000_000, _>")]
    pub(crate) bandwidth_back_kbit_s: Option<u64>,
    #[serde(deserialize_with = "within::<0, 90, _>")]
    pub(crate) loss_percent: u64,
    #[serde(deserialize_with = "within::<1, 10_000, _>")]
    pub(crate) retransmit_ms: u64,
    #[serde(deserialize_with = "within::<20, 65_536, _>")]
    pub(crate) packet_bytes: u64,
    #[serde(deserialize_with = "within::<16, 256, _>")]
    pub(crate) frame_kib_max: u64,
    #[serde(deserialize_with = "within::<1, 10_000, _>")]
    pub(crate) frames_max: u64,
    #[serde(deserialize_with = "within::<1, 3, _>")]
    pub(crate) per_pair: u64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Writes {
    #[serde(deserialize_with = "within::<1, 10_000_000, _>")]
    pub(crate) count: u64,
    #[serde(deserialize_with = "within::<1, 1_000_000, _>")]
    pub(crate) per_second: u64,
    #[serde(deserialize_with = "within::<1, 1_000_000, _>")]
    pub(crate) documents: u64,
    #[serde(deserialize_with = "within::<1, 1_000, _>")]
    pub(crate) pairs: u64,
    #[serde(deserialize_with = "within::<0, 100, _>")]
    pub(crate) large_percent: u64,
    #[serde(deserialize_with = "within::<0, 100_000, _>")]
    pub(crate) text_bytes: u64,
    #[serde(deserialize_with = "within::<0, 86_400_000, _>")]
    pub(crate) after_ms: u64,
}

/// A plane with peers in it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct FieldSettings {
    #[serde(deserialize_with = "within::<0, 64, _>")]
    pub(crate) lans: u64,
    #[serde(deserialize_with = "within::<2, 1_000, _>")]
    pub(crate) lan_sight: u64,
    pub(crate) radios: bool,
    #[serde(deserialize_with = "within::<1, 1_000, _>")]
    pub(crate) range_m: u64,
    #[serde(deserialize_with = "within::<8, 64, _>")]
    pub(crate) neighbours: u64,
    #[serde(deserialize_with = "range::<0, 100_000, _>")]
    pub(crate) speed_mm_s: [u64; 2],
    #[serde(deserialize_with = "within::<0, 64, _>")]
    pub(crate) links_target: u64,
    #[serde(deserialize_with = "within::<0, 64, _>")]
    pub(crate) links_max: u64,
    #[serde(deserialize_with = "within::<0, 100_000, _>")]
    pub(crate) settle_s: u64,
    pub(crate) split: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct FaultSettings {
    #[serde(deserialize_with = "within::<0, 10_000, _>")]
    pub(crate) cuts_per_second: u64,
    #[serde(deserialize_with = "within::<0, 86_400_000, _>")]
    pub(crate) link_life_ms: u64,
    #[serde(deserialize_with = "within::<0, 1_000, _>")]
    pub(crate) crashes_per_second: u64,
    #[serde(deserialize_with = "within::<0, 1_000, _>")]
    pub(crate) partitions: u64,
    #[serde(deserialize_with = "range::<1, 86_400_000, _>")]
    pub(crate) partition_ms: [u64; 2],
    #[serde(deserialize_with = "within::<0, 80_000_000, _>")]
    pub(crate) clock_skew_ms_max: u64,
    #[serde(deserialize_with = "within::<0, 1_000, _>")]
    pub(crate) clock_jumps_per_second: u64,
    #[serde(deserialize_with = "within::<0, 80_000_000, _>")]
    pub(crate) clock_jump_ms_max: u64,
    #[serde(deserialize_with = "within::<0, 1_000, _>")]
    pub(crate) restores: u64,
    #[serde(deserialize_with = "within::<0, 1_000, _>")]
    pub(crate) copies: u64,
    #[serde(deserialize_with = "within::<0, 20_000, _>")]
    pub(crate) later_versions: u64,
    #[serde(deserialize_with = "within::<0, 60_000_000, _>")]
    pub(crate) fsync_us_max: u64,
    #[serde(deserialize_with = "within::<0, 86_400_000, _>")]
    pub(crate) last_ms: u64,
    #[serde(deserialize_with = "within::<0, 1_000, _>")]
    pub(crate) vanishings_per_second: u64,
}

#[derive(Clone, Default, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Hostile {
    #[serde(deserialize_with = "within::<0, 1_000, _>")]
    pub(crate) garbage: u64,
    #[serde(deserialize_with = "within::<0, 1_000, _>")]
    pub(crate) truncate: u64,
    #[serde(deserialize_with = "within::<0, 1_000, _>")]
    pub(crate) flip_bits: u64,
    #[serde(deserialize_with = "within::<0, 1_000, _>")]
    pub(crate) replay: u64,
    #[serde(deserialize_with = "within::<0, 1_000, _>")]
    pub(crate) flood: u64,
    #[serde(deserialize_with = "within::<0, 1_000, _>")]
    pub(crate) mute: u64,
    #[serde(deserialize_with = "within::<0, 1_000, _>")]
    pub(crate) equivocate: u64,
    #[serde(deserialize_with = "within::<0, 1_000, _>")]
    pub(crate) liar: u64,
}

/// Times in which the peers do not see each other.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct AbsenceSettings {
    #[serde(deserialize_with = "within::<0, 1_000, _>")]
    pub(crate) rounds: u64,
    #[serde(deserialize_with = "range::<0, 1_000, _>")]
    pub(crate) days: [u64; 2],
}

/// Peers that want nothing themselves.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RelaySettings {
    #[serde(deserialize_with = "within::<0, 100, _>")]
    pub(crate) interested_percent: u64,
    #[serde(deserialize_with = "within::<1, 1_048_576, _>")]
    pub(crate) cache_kib: u64,
    #[serde(deserialize_with = "within::<1, 2, _>")]
    pub(crate) hops: u64,
    #[serde(deserialize_with = "within::<0, 8, _>")]
    pub(crate) gateways: u64,
}

impl Default for RelaySettings {
    fn default() -> Self {
        Self {
            interested_percent: 100,
            cache_kib: 65_536,
            hops: 1,
            gateways: 0,
        }
    }
}

/// Sync scopes that open and close.
#[derive(Clone, Default, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ScopeSettings {
    #[serde(deserialize_with = "within::<0, 1_000, _>")]
    pub(crate) changes_per_second: u64,
    #[serde(deserialize_with = "within::<0, 20_000, _>")]
    pub(crate) big_peers: u64,
}

/// Peers that want the first documents of an order and nothing else.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WindowSettings {
    #[serde(deserialize_with = "within::<0, 1_000, _>")]
    pub(crate) readers: u64,
    #[serde(deserialize_with = "within::<1, 10_000, _>")]
    pub(crate) documents: u64,
}

impl Default for WindowSettings {
    fn default() -> Self {
        Self {
            readers: 0,
            documents: 5,
        }
    }
}

/// Attachments in place of documents.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct AttachmentSettings {
    #[serde(deserialize_with = "within::<0, 1_000, _>")]
    pub(crate) contents: u64,
    #[serde(deserialize_with = "within::<0, 10_000, _>")]
    pub(crate) fetches: u64,
    #[serde(deserialize_with = "within::<1, 4_096, _>")]
    pub(crate) kib_max: u64,
}

impl Default for AttachmentSettings {
    fn default() -> Self {
        Self {
            contents: 0,
            fetches: 20,
            kib_max: 1_024,
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            about: "a scenario of your own".to_owned(),
            peers: 5,
            store: StoreKind::Memory,
            rest_s_max: 300,
            topology: Topology::default(),
            field: FieldSettings::default(),
            links: Links::default(),
            writes: Writes::default(),
            faults: FaultSettings::default(),
            absences: AbsenceSettings::default(),
            scopes: ScopeSettings::default(),
            relays: RelaySettings::default(),
            windows: WindowSettings::default(),
            attachments: AttachmentSettings::default(),
            hostile: Hostile::default(),
        }
    }
}

impl Default for Topology {
    fn default() -> Self {
        Self {
            kind: TopologyKind::Mesh,
            degree: 4,
        }
    }
}

impl Default for FieldSettings {
    fn default() -> Self {
        Self {
            lans: 0,
            lan_sight: 40,
            radios: true,
            range_m: 30,
            neighbours: 16,
            speed_mm_s: [0, 0],
            links_target: 0,
            links_max: 0,
            settle_s: 20,
            split: false,
        }
    }
}

impl Default for Links {
    fn default() -> Self {
        Self {
            latency_us: [1_000, 5_000],
            bandwidth_kbit_s: 0,
            bandwidth_back_kbit_s: None,
            loss_percent: 0,
            retransmit_ms: 200,
            packet_bytes: 1_400,
            frame_kib_max: 256,
            frames_max: 64,
            per_pair: 1,
        }
    }
}

impl Default for Writes {
    fn default() -> Self {
        Self {
            count: 100,
            per_second: 100,
            documents: 12,
            pairs: 3,
            large_percent: 0,
            text_bytes: 0,
            after_ms: 0,
        }
    }
}

impl Default for AbsenceSettings {
    fn default() -> Self {
        Self {
            rounds: 0,
            days: [1, 20],
        }
    }
}

impl Default for FaultSettings {
    fn default() -> Self {
        Self {
            cuts_per_second: 0,
            link_life_ms: 0,
            crashes_per_second: 0,
            partitions: 0,
            partition_ms: [100, 1_000],
            clock_skew_ms_max: 0,
            clock_jumps_per_second: 0,
            clock_jump_ms_max: 1_000,
            restores: 0,
            copies: 0,
            later_versions: 0,
            fsync_us_max: 500,
            last_ms: 1_000,
            vanishings_per_second: 0,
        }
    }
}

impl Settings {
    /// What no single key can tell.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.topology.kind == TopologyKind::Full && self.peers > FULL_PEERS_MAX {
            return Err(format!(
                "peers = {}: with topology.kind = \"full\" there can be 2 to {FULL_PEERS_MAX}; \
                 use \"mesh\" for more",
                self.peers
            ));
        }
        let field = &self.field;
        let is_field = self.topology.kind == TopologyKind::Field;
        let faults = &self.faults;
        if is_field && !field.radios && field.lans != 1 {
            return Err(format!(
                "field.lans = {}: without radios there must be 1, or the peers could never all meet",
                field.lans
            ));
        }
        if is_field && (field.links_target > field.links_max) {
            return Err(format!(
                "field.links_target = {}: it can be up to field.links_max = {}",
                field.links_target, field.links_max
            ));
        }
        let has_lies = is_field || self.relays.gateways > 0;
        if (!is_field && faults.vanishings_per_second > 0) || (!has_lies && self.hostile.liar > 0) {
            return Err(
                "faults.vanishings_per_second needs topology.kind = \"field\", and hostile.liar that or \
                 relays.gateways"
                    .to_owned(),
            );
        }
        if self.relays.gateways > 0 && (is_field || self.relays.interested_percent == 100) {
            return Err(
                "relays.gateways needs relays.interested_percent below 100, and does not go with \
                 topology.kind = \"field\""
                    .to_owned(),
            );
        }
        if self.attachments.contents > 0 && (is_field || self.absences.rounds > 0) {
            return Err(
                "attachments.contents does not go with topology.kind = \"field\" and absences.rounds"
                    .to_owned(),
            );
        }
        let is_other = is_field || self.absences.rounds > 0 || self.relays.interested_percent < 100;
        if self.windows.readers > 0 && is_other {
            return Err(
                "windows.readers does not go with topology.kind = \"field\", absences.rounds and \
                 relays.interested_percent"
                    .to_owned(),
            );
        }
        if is_field && (self.absences.rounds > 0 || self.hostile.equivocate > 0) {
            return Err(
                "absences.rounds and hostile.equivocate do not go with topology.kind = \"field\""
                    .to_owned(),
            );
        }
        Ok(())
    }
}

fn within<'de, const LOW: u64, const HIGH: u64, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<u64, D::Error> {
    let number = i64::deserialize(deserializer)?;
    check::<D::Error>(number, LOW, HIGH)
}

fn optional<'de, const LOW: u64, const HIGH: u64, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<u64>, D::Error> {
    within::<LOW, HIGH, D>(deserializer).map(Some)
}

fn range<'de, const LOW: u64, const HIGH: u64, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<[u64; 2], D::Error> {
    let [least, most] = <[i64; 2]>::deserialize(deserializer)?;
    if least > most {
        let text = format!("[{least}, {most}] is no range: write the least first");
        return Err(D::Error::custom(text));
    }
    Ok([
        check::<D::Error>(least, LOW, HIGH)?,
        check::<D::Error>(most, LOW, HIGH)?,
    ])
}

fn check<E: Error>(number: i64, low: u64, high: u64) -> Result<u64, E> {
    let checked = u64::try_from(number).ok();
    let checked = checked.filter(|number| (low..=high).contains(number));
    checked.ok_or_else(|| {
        E::custom(format!(
            "{number} is out of range: {low} to {high} are allowed"
        ))
    })
}
