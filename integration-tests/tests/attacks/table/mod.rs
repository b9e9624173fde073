//! The attacks that are statements: what is asked, and what a safe system says.
//!
//! Names in braces stand for products: see [`fill`]. The attacker is an analyst who may ask for care planning.

mod ask;
mod collect;
mod free;
mod metadata;
mod shape;
mod single;
mod surface;
mod tell;

use crate::town::{Feature, Town};

/// What a safe system does with a statement.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Verdict {
    /// Refused under this rule of the cube.
    Rule(&'static str),
    /// Refused: the product does not release that.
    Denied,
    /// Refused: it is no statement that is answered here, or wrong.
    NotTaken,
    /// Refused: there is no such product.
    Unknown,
    /// Answered with no row, or with nothing but NULL.
    Withheld,
    /// Answered, and this column is NULL in every row.
    Null(&'static str),
    /// Answered or refused; nothing hidden is in any byte of it.
    Clean,
    /// Answered with cells of a key and a count, each within the bound of the truth and on enough people.
    Released(fn(&Town) -> Vec<(String, i64)>),
    /// The same in every byte, but for names and references, as the answer to this statement.
    SameAs(&'static str),
    /// The same rows as of this statement.
    SameRows(&'static str),
    /// As said, once the release has this feature.
    Awaits(Feature, &'static Verdict),
}

impl Verdict {
    /// The word for it in the table of the README.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Rule(_) | Self::Denied | Self::NotTaken | Self::Unknown => "refused",
            Self::Withheld | Self::Null(_) => "withheld",
            Self::Clean => "clean",
            Self::Released(_) => "released",
            Self::SameAs(_) | Self::SameRows(_) => "same-as",
            Self::Awaits(_, then) => then.word(),
        }
    }
}

/// A name, a statement, a verdict.
pub(crate) type Line = (&'static str, &'static str, Verdict);

/// The statements by class, in the order of the README.
pub(crate) const STATEMENTS: &[(&str, &[Line])] = &[
    ("direct exposure", ask::DIRECT),
    ("singling out", single::SINGLING_OUT),
    ("trackers and differencing", ask::TRACKERS),
    ("averaging and reconstruction", shape::AVERAGING),
    ("extremes and collecting aggregates", collect::EXTREMES),
    ("windows and ordering", collect::WINDOWS),
    ("fan-out", shape::FAN_OUT),
    ("guessed tables and sub-queries", tell::GUESSED),
    ("errors", tell::ERRORS),
    ("metadata and plans", metadata::METADATA),
    ("statement surface", surface::SURFACE),
    ("free questions", free::FREE),
];

/// `sql` with its products named.
pub(crate) fn fill(sql: &str) -> String {
    const NAMES: &[(&str, &str)] = &[
        ("{c}", "siskin.care.cases"),
        ("{v}", "siskin.care.visits"),
        ("{n}", "siskin.care.neighbours"),
        ("{e}", "siskin.care.estates"),
        ("{s}", "siskin.care.surveys"),
        ("{a}", "siskin.care.panel"),
        ("{m}", "siskin.care.plot_many"),
        ("{k}", "siskin.care.blocks"),
        ("{l}", "linnet.care.cases"),
        ("{u}", "city.care.cases"),
        ("{w}", "siskin.hall.wards"),
        ("{b}", "siskin.hall.bookings"),
        ("{p}", "siskin.hall.permits"),
        ("{r}", "siskin.hall.quarantine_register"),
    ];
    NAMES.iter().fold(sql.to_owned(), |sql, (name, product)| {
        sql.replace(name, product)
    })
}

#[test]
fn no_two_attacks_have_one_name() {
    let mut names: Vec<&str> = STATEMENTS
        .iter()
        .flat_map(|(_, lines)| lines.iter().map(|l| l.0))
        .collect();
    names.sort_unstable();
    let twice: Vec<_> = names.windows(2).filter(|w| w[0] == w[1]).collect();
    assert!(twice.is_empty(), "{twice:?}");
}
