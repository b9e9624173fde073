//! Cell-key noise: a function of who is in a cell, and of nothing else.
//!
//! Each unit has a record key; a cell's key is the sum of its units' keys; the cell's noise is drawn from the
//! [`PTable`] at an index that a keyed hash makes of the cell key and the count. So the same set of units gives
//! the same noise in every answer, whatever the statement, and averaging repeated answers gains nothing.
//!
//! A total has two noises: that of its contributors' count, times its mean contribution; and one of its own, a step of
//! which is 5 % of the largest contribution. The own one hides what a single unit gives, and would do alone for that. But
//! of parts that are nearly alike it is small against one part: such a total told the count almost without noise, and
//! each further one drew anew, so that averaging them told it exactly. With the count's own noise in it, no number of
//! totals tells the count better than the count does. What it costs: a sum is as far off, in parts, as its count; a
//! mean is not, since both move alike. And who knows a total exactly from elsewhere learns the noise of its count from
//! it where parts are nearly alike.
//!
//! Cells that have members at several owners are drawn for with the secrets of those owners together ([`CellDraws`]).
//!
//! The keys are 64 bits under HMAC-SHA256. ONS's have 8 bits, and the noise of each known cell is a linear equation in
//! them modulo 256; these cannot be solved for. What this does not stop is a free grammar: a cell asked with and
//! without one person differs for sure. Only answers of the cube lane may be perturbed like this.

use crate::ptable::PTable;
use arrow::array::{ArrayRef, AsArray, UInt64Array};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use ring::hmac;
use std::fmt;
use std::sync::Arc;
use zeroize::{Zeroize, Zeroizing};

/// Bytes of a secret.
const LENGTH: usize = 32;
/// HKDF's salt: sets these secrets apart from any other use of the same bytes.
const SALT: &[u8] = b"guildhall cell-key noise";

/// The secret behind the noise of one dataset in one epoch. Clones share it.
///
/// `Debug` shows nothing of it. The bytes, and the hash states made from them, are overwritten when the last clone is
/// dropped.
#[derive(Clone)]
pub struct NoiseSecret(Arc<Keyed>);

struct Keyed {
    bytes: Zeroizing<[u8; LENGTH]>,
    state: hmac::Key,
}

impl NoiseSecret {
    /// The secret with these bytes, which should be uniformly random.
    #[must_use]
    pub fn from_bytes(bytes: [u8; LENGTH]) -> Self {
        let bytes = Zeroizing::new(bytes);
        let state = hmac::Key::new(hmac::HMAC_SHA256, bytes.as_slice());
        Self(Arc::new(Keyed { bytes, state }))
    }

    /// The secret for `label` (a dataset and its epoch, say): HKDF-SHA256 of this one, with the label as its info.
    ///
    /// Secrets of different labels say nothing of each other, so noise of two datasets or epochs is independent.
    #[must_use]
    pub fn derive(&self, label: &str) -> Self {
        let extracted = hmac::sign(
            &hmac::Key::new(hmac::HMAC_SHA256, SALT),
            self.0.bytes.as_slice(),
        );
        let prk = hmac::Key::new(hmac::HMAC_SHA256, extracted.as_ref());
        // The first block of HKDF's expansion, which is all that 32 bytes need.
        let mut hash = hmac::Context::with_key(&prk);
        hash.update(label.as_bytes());
        hash.update(&[1]);
        let mut bytes = [0; LENGTH];
        bytes
            .iter_mut()
            .zip(hash.sign().as_ref())
            .for_each(|(to, from)| *to = *from);
        let derived = Self::from_bytes(bytes);
        bytes.zeroize();
        derived
    }

    /// The record key of the unit that `unit` names: the first 8 bytes of HMAC-SHA256 over `"rk"` and the name,
    /// little-endian. The epoch is in the secret ([`Self::derive`]).
    ///
    /// Costs two blocks of SHA-256 for names of up to 53 bytes.
    #[must_use]
    pub fn record_key(&self, unit: &[u8]) -> u64 {
        let mut hash = hmac::Context::with_key(&self.0.state);
        hash.update(b"rk");
        hash.update(unit);
        first_eight(&hash.sign())
    }

    /// The record key of each of `units`, which their texts name; NULL for NULL.
    ///
    /// Fails if they have no text form.
    pub fn record_keys(&self, units: &ArrayRef) -> Result<UInt64Array, ArrowError> {
        let texts = cast(units, &DataType::Utf8)?;
        let key = |unit: Option<&str>| unit.map(|u| self.record_key(u.as_bytes()));
        Ok(texts.as_string::<i32>().iter().map(key).collect())
    }

    /// The seed of a generator for the draw that `context` names: HMAC-SHA256 over it. Use it with a secret that is
    /// [derived](Self::derive) for draws alone.
    pub(crate) fn seed(&self, context: &[u8]) -> Zeroizing<[u8; LENGTH]> {
        let mut seed = Zeroizing::new([0; LENGTH]);
        let tag = hmac::sign(&self.0.state, context);
        seed.iter_mut()
            .zip(tag.as_ref())
            .for_each(|(to, from)| *to = *from);
        seed
    }

    /// What names this secret without telling it: HKDF's output for a label of its own. Another secret has another.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; LENGTH] {
        *self.derive("guildhall fingerprint").0.bytes
    }

    /// The part of this secret that draws the noise of cells: [derived](Self::derive), so that it tells nothing of record
    /// keys.
    #[must_use]
    pub fn draws(&self) -> DrawSecret {
        DrawSecret(self.derive("guildhall draws"))
    }

    fn index(&self, kind: &str, id: &str, key_sum: u64, n: u64) -> u64 {
        let mut hash = hmac::Context::with_key(&self.0.state);
        hash.update(b"pt");
        for text in [kind, id] {
            hash.update(&(text.len() as u64).to_le_bytes());
            hash.update(text.as_bytes());
        }
        hash.update(&key_sum.to_le_bytes());
        hash.update(&n.to_le_bytes());
        first_eight(&hash.sign())
    }
}

fn first_eight(tag: &hmac::Tag) -> u64 {
    tag.as_ref()
        .first_chunk()
        .map_or(0, |b| u64::from_le_bytes(*b))
}

impl Drop for Keyed {
    fn drop(&mut self) {
        // The states are the key in all but name. `ring` wipes nothing, so they are overwritten in place.
        self.state = hmac::Key::new(hmac::HMAC_SHA256, &[0; LENGTH]);
        std::hint::black_box(&self.state);
    }
}

impl fmt::Debug for NoiseSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NoiseSecret(..)")
    }
}

/// What draws the noise of cells whose sums of record keys are known. Of a record key, and so of a cell whose members are
/// not known, it tells nothing.
#[derive(Debug, Clone)]
pub struct DrawSecret(NoiseSecret);

impl DrawSecret {
    /// One with these bytes, as [`Self::to_bytes`] gave them.
    #[must_use]
    pub fn from_bytes(bytes: [u8; LENGTH]) -> Self {
        Self(NoiseSecret::from_bytes(bytes))
    }

    /// Its bytes, for a clean room that is to draw what this would.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<[u8; LENGTH]> {
        self.0.0.bytes.clone()
    }

    /// Where in the table a cell's noise is drawn: a function of its members and of what is measured.
    pub(crate) fn index(&self, kind: &str, id: &str, key_sum: u64, n: u64) -> u64 {
        self.0.index(kind, id, key_sum, n)
    }

    /// What draws for cells with members at all of these owners: of owners with the same secret, that secret; of others
    /// HMAC-SHA256 over theirs, in an order of its own, so that it does not matter who is named first.
    #[must_use]
    pub fn together(owners: &[&Self]) -> Self {
        let mut secrets: Vec<&[u8]> = owners.iter().map(|o| o.0.0.bytes.as_slice()).collect();
        secrets.sort_unstable();
        secrets.dedup();
        if let ([_], Some(one)) = (secrets.as_slice(), owners.first()) {
            return Self::clone(one);
        }
        let mut hash = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, SALT));
        secrets.iter().for_each(|secret| hash.update(secret));
        let mut bytes = [0; LENGTH];
        bytes
            .iter_mut()
            .zip(hash.sign().as_ref())
            .for_each(|(to, from)| *to = *from);
        let together = Self::from_bytes(bytes);
        bytes.zeroize();
        together
    }
}

/// What the noise of a dataset's cells is drawn with.
#[derive(Debug, Clone)]
pub struct Noise {
    /// Whose secrets.
    pub draws: CellDraws,
    /// How likely each step is; a table lives as long as the node, like [`PTable::standard`].
    pub table: &'static PTable,
}

/// Whose secrets draw the noise of cells.
///
/// Invariant: the noise of a cell is a function of its members. A cell whose members are all one owner's has that owner's
/// noise, whoever else was asked; so asking in other company draws nothing anew.
#[derive(Debug, Clone)]
pub enum CellDraws {
    /// One owner's.
    Own(DrawSecret),
    /// Several owners', each for the cells that it has members in.
    Joint(Vec<OwnerDraws>),
}

/// What one of several owners draws with.
#[derive(Debug, Clone)]
pub struct OwnerDraws {
    /// Its secret.
    pub secret: DrawSecret,
    /// What it calls each total, in the order of [`Facts::totals`](crate::Facts::totals).
    pub totals: Vec<String>,
}

/// What noise is drawn for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Drawn<'a> {
    /// How many units there are in a set.
    Units,
    /// The total of this number and id.
    Total(usize, &'a str),
}

impl Drawn<'_> {
    fn kind(self) -> &'static str {
        match self {
            Self::Units => "units",
            Self::Total(..) => "total",
        }
    }

    /// What the owners call it.
    fn id(self, owners: &[&OwnerDraws]) -> String {
        let Self::Total(at, id) = self else {
            return String::new();
        };
        let mut ids: Vec<&str> = owners
            .iter()
            .map(|o| o.totals.get(at).map_or(id, String::as_str))
            .collect();
        ids.sort_unstable();
        ids.dedup();
        ids.join("\n")
    }
}

impl CellDraws {
    /// Where in the table noise is drawn for a set of `n` units with this sum of record keys, of which each owner whose
    /// bit is set in `owners` has some.
    pub(crate) fn index(&self, drawn: Drawn<'_>, owners: u64, key_sum: u64, n: u64) -> u64 {
        match self {
            Self::Own(secret) => {
                let id = match drawn {
                    Drawn::Units => "",
                    Drawn::Total(_, id) => id,
                };
                secret.index(drawn.kind(), id, key_sum, n)
            }
            Self::Joint(all) => {
                let has = |at: usize| u32::try_from(at).is_ok_and(|at| owners >> at & 1 == 1);
                let of: Vec<&OwnerDraws> = (0..all.len().min(MOST_OWNERS))
                    .filter(|at| has(*at))
                    .filter_map(|at| all.get(at))
                    .collect();
                let secrets: Vec<&DrawSecret> = of.iter().map(|o| &o.secret).collect();
                DrawSecret::together(&secrets).index(drawn.kind(), &drawn.id(&of), key_sum, n)
            }
        }
    }
}

/// Owners whose cells are put together, at most: each has a bit.
pub(crate) const MOST_OWNERS: usize = 64;
