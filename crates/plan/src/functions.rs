//! The functions that a statement or a fragment may call, by name.
//!
//! A function is on the list because somebody needs it and it is a pure function of its
//! arguments. What reads the environment, a file or the session, sleeps, draws lots, or turns a
//! few bytes into gigabytes is not. `now()` and its like are: the gateway turns them into
//! literals, so that every node sees the same instant.

mod bounded;
mod listed;

pub(crate) use bounded::TextPlanner;

use crate::profile::types::is_flat;
use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::execution::SessionStateDefaults;
use datafusion::logical_expr::{AggregateUDF, Expr, ScalarUDF, WindowUDF};
use std::sync::Arc;

/// What the scalar functions of a group are about, as tools that list them ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// Values of any kind.
    General,
    /// Dates and times.
    DateTime,
    /// Numbers.
    Numbers,
    /// Texts.
    Texts,
}

impl Subject {
    const ALL: [Self; 4] = [Self::General, Self::DateTime, Self::Numbers, Self::Texts];

    fn listed(self) -> &'static [&'static str] {
        match self {
            Self::General => listed::GENERAL,
            Self::DateTime => listed::DATE_TIME,
            Self::Numbers => listed::NUMBERS,
            Self::Texts => listed::TEXTS,
        }
    }
}

/// The longest text that `lpad` and `rpad` may fill up to.
const MAX_PAD: i64 = 1_000;

/// The longest text that `string_agg` may put between values.
const MAX_DELIMITER: usize = 1_000;

/// What a function is called as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One value for each row.
    Scalar,
    /// One value for each group; also over a window.
    Aggregate,
    /// One value for each row, from its window.
    Window,
}

/// Why a call is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FunctionError {
    /// Not on the list.
    #[error("there is no function `{name}` here")]
    NotOffered {
        /// Its name.
        name: String,
    },
    /// On the list, but not with this argument.
    #[error("`{name}` {rule}")]
    Argument {
        /// Its name.
        name: &'static str,
        /// What it asks of its arguments.
        rule: &'static str,
    },
}

/// The scalar functions on the list. Those that lengthen text fail rather than make one that is
/// very long.
#[must_use]
pub fn scalar() -> Vec<Arc<ScalarUDF>> {
    let mut all = SessionStateDefaults::default_scalar_functions();
    all.retain(|f| is_scalar(f.name()));
    bounded::bounded(all)
}

/// The names of the scalar functions on the list, aliases included, in alphabetical order.
#[must_use]
pub fn names(subject: Subject) -> Vec<String> {
    let mut names: Vec<String> = scalar()
        .iter()
        .filter(|f| subject.listed().contains(&f.name()))
        .flat_map(|f| std::iter::once(f.name()).chain(f.aliases().iter().map(String::as_str)))
        .map(str::to_owned)
        .collect();
    names.sort_unstable();
    names
}

fn is_scalar(name: &str) -> bool {
    name == bounded::JOIN || Subject::ALL.iter().any(|s| s.listed().contains(&name))
}

/// The aggregate functions on the list.
#[must_use]
pub fn aggregate() -> Vec<Arc<AggregateUDF>> {
    let mut all = SessionStateDefaults::default_aggregate_functions();
    all.retain(|f| listed::AGGREGATE.contains(&f.name()));
    all
}

/// The window functions on the list.
#[must_use]
pub fn window() -> Vec<Arc<WindowUDF>> {
    let mut all = SessionStateDefaults::default_window_functions();
    all.retain(|f| listed::WINDOW.contains(&f.name()));
    all
}

/// Whether a planned call by this name, the engine's own, is on the list.
#[must_use]
pub fn is_allowed(kind: Kind, name: &str) -> bool {
    match kind {
        Kind::Scalar => is_scalar(name),
        Kind::Aggregate => listed::AGGREGATE.contains(&name),
        Kind::Window => listed::WINDOW.contains(&name) || listed::AGGREGATE.contains(&name),
    }
}

/// Whether a statement may use this name, aliases such as `substring` and `mean` included.
#[must_use]
pub fn is_known(name: &str) -> bool {
    static NAMES: std::sync::OnceLock<std::collections::HashSet<String>> =
        std::sync::OnceLock::new();
    NAMES
        .get_or_init(|| {
            let mut names = std::collections::HashSet::new();
            for f in scalar() {
                names.insert(f.name().to_owned());
                names.extend(f.aliases().iter().cloned());
            }
            for f in aggregate() {
                names.insert(f.name().to_owned());
                names.extend(f.aliases().iter().cloned());
            }
            for f in window() {
                names.insert(f.name().to_owned());
                names.extend(f.aliases().iter().cloned());
            }
            names
        })
        .contains(name)
}

/// Checks one planned call of a scalar function: that it is the one from [`scalar`] where that
/// one is held to a length, and what [`check_call`] checks.
pub fn check_scalar(f: &ScalarUDF, args: &[Expr]) -> Result<(), FunctionError> {
    if !bounded::is_bounded(f) {
        return Err(FunctionError::NotOffered {
            name: f.name().to_owned(),
        });
    }
    check_call(Kind::Scalar, f.name(), args)
}

/// Checks one planned call: its name, and the arguments that decide how much memory it takes.
pub fn check_call(kind: Kind, name: &str, args: &[Expr]) -> Result<(), FunctionError> {
    if !is_allowed(kind, name) {
        return Err(FunctionError::NotOffered {
            name: name.chars().take(64).collect(),
        });
    }
    match (kind, name) {
        (Kind::Scalar, "lpad" | "rpad") => check_pad(args),
        (Kind::Scalar, "arrow_cast") => check_arrow_cast(args),
        (Kind::Aggregate | Kind::Window, "string_agg") => check_delimiter(args),
        _ => Ok(()),
    }
}

fn check_pad(args: &[Expr]) -> Result<(), FunctionError> {
    let length = match args.get(1).map(unwrap_cast) {
        Some(Expr::Literal(v, _)) => v.cast_to(&DataType::Int64).ok(),
        _ => None,
    };
    match length {
        Some(ScalarValue::Int64(Some(n))) if n <= MAX_PAD => Ok(()),
        _ => Err(FunctionError::Argument {
            name: "lpad and rpad",
            rule: "take a length that is a literal of 1000 at most",
        }),
    }
}

fn check_delimiter(args: &[Expr]) -> Result<(), FunctionError> {
    match args.get(1).map(unwrap_cast) {
        Some(Expr::Literal(v, _))
            if v.try_as_str()
                .flatten()
                .is_some_and(|d| d.len() > MAX_DELIMITER) =>
        {
            Err(FunctionError::Argument {
                name: "string_agg",
                rule: "takes a delimiter of 1000 bytes at most",
            })
        }
        _ => Ok(()),
    }
}

fn check_arrow_cast(args: &[Expr]) -> Result<(), FunctionError> {
    let wanted = match args.get(1) {
        Some(Expr::Literal(v, _)) => v.try_as_str().flatten(),
        _ => None,
    };
    match wanted.map(str::parse::<DataType>) {
        Some(Ok(t)) if is_flat(&t) => Ok(()),
        _ => Err(FunctionError::Argument {
            name: "arrow_cast",
            rule: "takes the name of a number, text, date, time or boolean type",
        }),
    }
}

fn unwrap_cast(e: &Expr) -> &Expr {
    match e {
        Expr::Cast(c) => unwrap_cast(&c.expr),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::prelude::{col, lit};

    #[test]
    fn what_is_not_listed_is_refused_and_so_is_the_engines_own_of_what_is_bounded() {
        let not_offered = |name: &str| {
            let name = name.to_owned();
            Err(FunctionError::NotOffered { name })
        };
        for kind in [Kind::Scalar, Kind::Aggregate, Kind::Window] {
            assert_eq!(check_call(kind, "md5", &[]), not_offered("md5"));
        }
        let of_engine = SessionStateDefaults::default_scalar_functions();
        for f in scalar().iter().filter(|f| bounded::is_bounded(f)) {
            let stock = of_engine.iter().find(|s| s.name() == f.name());
            if let Some(stock) = stock.filter(|s| !bounded::is_bounded(s)) {
                assert_eq!(check_scalar(stock, &[]), not_offered(f.name()));
            }
        }
        let replace = of_engine.iter().find(|f| f.name() == "replace");
        assert!(!bounded::is_bounded(replace.unwrap()));
    }

    #[test]
    fn every_listed_function_exists_in_the_engine() {
        let scalar: Vec<&str> = Subject::ALL
            .iter()
            .flat_map(|s| s.listed())
            .copied()
            .collect();
        let made = self::scalar();
        assert_eq!(missing(&scalar, made.iter().map(|f| f.name())), [""; 0]);
        assert_eq!(made.len(), scalar.len() + 1, "and what `||` is planned as");
        let made = aggregate();
        assert_eq!(
            missing(listed::AGGREGATE, made.iter().map(|f| f.name())),
            [""; 0]
        );
        assert_eq!(made.len(), listed::AGGREGATE.len());
        let made = window();
        assert_eq!(
            missing(listed::WINDOW, made.iter().map(|f| f.name())),
            [""; 0]
        );
        assert_eq!(made.len(), listed::WINDOW.len());
    }

    #[test]
    fn what_tools_are_told_may_be_called() {
        for subject in Subject::ALL {
            let names = names(subject);
            assert!(!names.is_empty());
            assert!(names.iter().all(|n| is_known(n)), "{names:?}");
        }
        assert!(names(Subject::Texts).contains(&"substring".to_owned()));
    }

    #[test]
    fn what_reads_more_than_its_arguments_is_not_listed() {
        for name in [
            "version",
            "input_file_name",
            "file_row_index",
            "random",
            "rand",
            "uuid",
            "repeat",
            "read_csv",
            "sleep",
            "get_field",
            "generate_series",
        ] {
            assert!(!is_known(name), "{name}");
            assert!(!is_allowed(Kind::Scalar, name), "{name}");
        }
    }

    #[test]
    fn aliases_are_known_to_statements() {
        for name in [
            "substring",
            "mean",
            "length",
            "pow",
            "current_timestamp",
            "trim",
            "var_samp",
        ] {
            assert!(is_known(name), "{name}");
        }
    }

    #[test]
    fn padding_is_bounded_by_a_literal() {
        let pad = |n: Expr| check_call(Kind::Scalar, "lpad", &[col("a"), n, lit("0")]);
        assert!(pad(lit(8_i64)).is_ok());
        assert!(pad(lit(2_000_000_000_i64)).is_err());
        assert!(pad(col("b")).is_err());
    }

    #[test]
    fn what_stands_between_aggregated_texts_is_short() {
        let agg = |d: &str| check_call(Kind::Aggregate, "string_agg", &[col("a"), lit(d)]);
        assert!(agg(", ").is_ok());
        assert!(agg(&"x".repeat(60_000)).is_err());
    }

    #[test]
    fn arrow_cast_goes_to_flat_types_only() {
        let cast = |t: &str| check_call(Kind::Scalar, "arrow_cast", &[col("a"), lit(t)]);
        assert!(cast("Duration(Second)").is_ok());
        assert!(cast("Timestamp(Microsecond, None)").is_ok());
        assert!(cast("FixedSizeList(2000000000 x Int8)").is_err());
        assert!(cast("no such type").is_err());
    }

    fn missing<'a>(list: &[&'a str], have: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
        let have: Vec<&str> = have.collect();
        list.iter().copied().filter(|n| !have.contains(n)).collect()
    }
}
