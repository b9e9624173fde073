//! What to mend in a product before it is offered.
//!
//! Some of it shows in the product file ([`of_file`]), some only on the data ([`of_data`]). A finding names its
//! rule, the columns at fault and a remedy; it holds no value of any row.

mod names;

use super::survey::{BoundSurvey, PairSurvey, PartSurvey, Survey, TableSurvey, share};
use guildhall_disclosure::{Axis, Fate};
use guildhall_grant::product::{Measure, Product};
use guildhall_model::{ColumnClass, ColumnName};
use guildhall_plan::cube::{AxisPlace, CubeAxis, CubeLevel};
use names::is_identifier;
use std::fmt;

/// How much a finding weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Gravity {
    /// The product works, and could be better.
    Warning,
    /// The product does not work as it says.
    Error,
}

/// One thing to mend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The rule's name, which stays the same from version to version.
    pub rule: &'static str,
    /// How much it weighs.
    pub gravity: Gravity,
    /// The columns at fault.
    pub columns: Vec<ColumnName>,
    /// What is the matter.
    pub says: String,
    /// What to do about it.
    pub remedy: &'static str,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gravity = match self.gravity {
            Gravity::Warning => "warning",
            Gravity::Error => "error",
        };
        let columns: Vec<&str> = self.columns.iter().map(ColumnName::as_str).collect();
        writeln!(
            f,
            "{gravity}[{}]: {}: {}",
            self.rule,
            columns.join(", "),
            self.says
        )?;
        write!(f, "  help: {}", self.remedy)
    }
}

/// A column of as many values as this share of its rows tells rows apart.
const NEAR_UNIQUE: f64 = 0.8;
/// Of fewer rows than this nothing can be said.
const ENOUGH_ROWS: u64 = 50;
/// Bounds further apart than this bound nothing that a council counts for one person.
const WIDE: f64 = 1e9;
/// A share of parts that bounds may change before anybody is told.
const CLAMPED: f64 = 0.05;
/// The same of the whole product, of which no question need be asked.
const CLAMPED_WHOLE: f64 = 0.25;
/// A share of rows without a unit that is worth a word.
const NOBODYS: f64 = 0.01;
/// A measure that varies less than this share of its mean is a constant.
const CONSTANT: f64 = 0.01;
/// A table of which less than this share of its combinations has units is mostly empty.
const EMPTY: f64 = 0.5;
/// A table by one dimension that tells less than this share of its units is of no use.
const WORTH: f64 = 0.5;
/// A cell as many times as large as the minimum group is no small one to lose.
const LARGE: u64 = 5;

/// What the product file alone shows.
#[must_use]
pub(super) fn of_file(product: &Product) -> Vec<Finding> {
    let mut found = Vec::new();
    for column in &product.columns {
        let open = matches!(column.class, ColumnClass::Open | ColumnClass::Quasi);
        if open && is_identifier(column.name.as_str(), product.class) {
            found.push(identifier(product, &column.name));
        }
    }
    let dimensions = product.dimensions.iter().map(|d| &d.column);
    found.extend(dimensions.filter_map(|d| levels(product, d)));
    let wide = product
        .measures
        .iter()
        .filter(|m| m.upper - m.lower >= WIDE || m.lower.abs() >= WIDE || m.upper.abs() >= WIDE);
    found.extend(wide.map(|m| too_wide(m, "the bounds are as good as none")));
    found
}

/// What shows on the data.
#[must_use]
pub(super) fn of_data(product: &Product, survey: &Survey) -> Vec<Finding> {
    let mut found = Vec::new();
    found.extend(nobody(product, survey));
    found.extend(near_unique(product, survey));
    for pair in &survey.pairs {
        found.extend(within(product, pair));
    }
    for (at, part) in survey.parts.iter().enumerate() {
        let most = if at == 0 { CLAMPED_WHOLE } else { CLAMPED };
        found.extend(over_rows(part, most));
        for bound in &part.measures {
            found.extend(bounds(product, part, bound, most));
        }
    }
    found.extend(constant(product, survey));
    for table in &survey.tables {
        found.extend(combination(product, table));
        found.extend(rare(product, table));
        found.extend(mostly_withheld(table));
        found.extend(mostly_empty(table));
    }
    found
}

fn warning(
    rule: &'static str,
    columns: impl IntoIterator<Item = ColumnName>,
    says: impl Into<String>,
    remedy: &'static str,
) -> Finding {
    Finding {
        rule,
        gravity: Gravity::Warning,
        columns: columns.into_iter().collect(),
        says: says.into(),
        remedy,
    }
}

fn identifier(product: &Product, column: &ColumnName) -> Finding {
    let class = product.column(column.as_str()).map(|c| c.class);
    let class = class.map_or("?", ColumnClass::as_str);
    let dimension = product.dimension(column.as_str()).is_some();
    let as_what = if dimension { " and a dimension" } else { "" };
    warning(
        "identifier-left-open",
        [column.clone()],
        format!("is named as an identifier is, but is of class `{class}`{as_what}"),
        "make its class `identifier` or `secret`, or offer something coarser in its place, as a ward for a postcode",
    )
}

/// Levels of one dimension of which neither lies in the other.
fn levels(product: &Product, column: &ColumnName) -> Option<Finding> {
    let of = product.dimension(column.as_str())?;
    let mut levels = vec![CubeLevel::of(column, None)];
    let truncs = of.roll_ups.iter().map(|r| CubeLevel::of(column, Some(r)));
    levels.extend(truncs.filter(product_level));
    let axis = CubeAxis {
        levels,
        at: AxisPlace::Key(0),
    };
    let axis = Axis {
        coarser: axis.coarser(product),
        declared: vec![],
    };
    (!axis.nests()).then(|| {
        warning(
            "levels-do-not-nest",
            [column.clone()],
            "is rolled up in two ways of which neither lies in the other, as weeks and months are",
            "offer one of the two; what both tell together is left to noise alone",
        )
    })
}

fn product_level(level: &CubeLevel) -> bool {
    use guildhall_grant::product::RollUpKind;
    use guildhall_plan::cube::LevelBy;
    matches!(&level.by, LevelBy::Trunc(r) if matches!(r.kind, RollUpKind::DateTrunc(_)))
}

fn too_wide(measure: &Measure, says: &str) -> Finding {
    warning(
        "bounds-too-wide",
        [measure.column.clone()],
        says,
        "set `lower` and `upper` to what one unit's total may be: free questions have noise in proportion to them",
    )
}

fn nobody(product: &Product, survey: &Survey) -> Option<Finding> {
    let nobodys = share(survey.rows_of_nobody, survey.rows);
    (nobodys > NOBODYS).then(|| {
        warning(
            "rows-of-nobody",
            product.unit.clone(),
            format!(
                "{} of the rows have no unit, and are in no cell",
                percent(nobodys)
            ),
            "fill the unit in the view, with one of its own for each such row if need be",
        )
    })
}

/// Columns whose values nearly tell rows, or units, apart.
fn near_unique(product: &Product, survey: &Survey) -> Vec<Finding> {
    let open = survey.columns.iter().filter(|c| {
        let class = product.column(c.name.as_str()).map(|c| c.class);
        matches!(class, Some(ColumnClass::Open | ColumnClass::Quasi)) && c.values >= ENOUGH_ROWS
    });
    let unique = open.filter(|c| {
        let of = match product.dimension(c.name.as_str()) {
            Some(_) => c.values.min(survey.units),
            None => c.values,
        };
        share(c.distinct, of) > NEAR_UNIQUE
    });
    unique
        .map(|c| {
            warning(
                "near-unique-values",
                [c.name.clone()],
                "has nearly as many values as there are rows or units",
                "make its class `identifier`, or offer something coarser in its place: a day for a moment, a ward for an address",
            )
        })
        .collect()
}

/// What two dimensions say of each other, and what the product says of them.
fn within(product: &Product, pair: &PairSurvey) -> Vec<Finding> {
    let PairSurvey {
        one,
        other,
        ones,
        others,
        both,
    } = pair;
    let mut found = Vec::new();
    for (inner, outer, inners, outers) in [(one, other, ones, others), (other, one, others, ones)] {
        let declared = lies_within(product, inner, outer);
        if declared && both > inners {
            found.push(Finding {
                rule: "contradicted-within",
                gravity: Gravity::Error,
                columns: vec![inner.clone(), outer.clone()],
                says: format!("some value of `{inner}` lies in more than one of `{outer}`"),
                remedy: "take `within` out of the product file, or mend the data; questions over both would fail",
            });
        }
        let follows = both == inners && *outers > 1 && inners > outers;
        if follows && !declared && !lies_within(product, outer, inner) {
            found.push(warning(
                "undeclared-within",
                [inner.clone(), outer.clone()],
                format!("each value of `{inner}` lies in one of `{outer}`, which the product does not say"),
                "say `within` in the product file: the two are one axis, and combinations that cannot be are not withheld",
            ));
        }
    }
    let same = both == ones && ones == others && *ones > 1;
    let declared = lies_within(product, one, other) || lies_within(product, other, one);
    if same && !declared {
        found.push(warning(
            "undeclared-within",
            [one.clone(), other.clone()],
            "the two tell the same apart",
            "offer one of the two, or say `within` in the product file",
        ));
    }
    found
}

fn lies_within(product: &Product, inner: &ColumnName, outer: &ColumnName) -> bool {
    let mut at = inner;
    for _ in 0..product.dimensions.len() {
        match product
            .dimension(at.as_str())
            .and_then(|d| d.within.as_ref())
        {
            None => return false,
            Some(within) if within == outer => return true,
            Some(within) => at = within,
        }
    }
    false
}

fn over_rows(part: &PartSurvey, most: f64) -> Option<Finding> {
    let over = share(part.over_rows, part.units);
    (over > most).then(|| {
        warning(
            "rows-per-unit-cut",
            part.keys.clone(),
            format!(
                "{} of the units have more rows than `max_rows_per_unit` in one cell {}",
                percent(over),
                by(&part.keys)
            ),
            "raise `max_rows_per_unit`, or offer a view with fewer rows for each unit",
        )
    })
}

fn bounds(product: &Product, part: &PartSurvey, bound: &BoundSurvey, most: f64) -> Vec<Finding> {
    let mut found = Vec::new();
    let clamped = share(bound.below.saturating_add(bound.above), bound.totals);
    if clamped > most {
        found.push(warning(
            "bounds-too-narrow",
            [bound.column.clone()],
            format!(
                "{} of the units' totals are cut by the bounds {}",
                percent(clamped),
                by(&part.keys)
            ),
            "widen `lower` and `upper`; they bound one unit's total in one cell, not one row",
        ));
    }
    // Of the whole product totals are largest.
    let measure = product.measure(bound.column.as_str());
    if let Some(measure) = measure.filter(|_| part.keys.is_empty() && bound.unused) {
        found.push(too_wide(
            measure,
            "less than a tenth of the way between the bounds is used",
        ));
    }
    found
}

fn constant(product: &Product, survey: &Survey) -> Vec<Finding> {
    let measures = survey.columns.iter().filter(|c| {
        product.measure(c.name.as_str()).is_some()
            && c.values >= ENOUGH_ROWS
            && c.spread.is_some_and(|s| s < CONSTANT)
    });
    measures
        .map(|c| {
            warning(
                "constant-measure",
                [c.name.clone()],
                "has the same value in nearly every row, so that its total tells the count of rows with other noise",
                "leave it out of the product",
            )
        })
        .collect()
}

fn combination(product: &Product, table: &TableSurvey) -> Option<Finding> {
    let few = u64::from(product.minimum_group) / 2;
    let few_each = table.units < table.cells.saturating_mul(few.max(2));
    (table.keys.len() > 1 && table.cells >= ENOUGH_ROWS && few_each).then(|| {
        warning(
            "near-unique-combination",
            table.keys.clone(),
            "together tell nearly every unit apart: a cell has less than half of the minimum group, taken all in all",
            "offer fewer dimensions in one product, or coarser ones",
        )
    })
}

fn rare(product: &Product, table: &TableSurvey) -> Option<Finding> {
    let [column] = table.keys.as_slice() else {
        return None;
    };
    let (failing, lost) = (table.failing(), table.of(Fate::Margins));
    let large = u64::from(product.minimum_group).saturating_mul(LARGE);
    (failing > 0 && table.units_for_margins >= large).then(|| {
        let null = if table.null_fails { ", NULL among them" } else { "" };
        warning(
            "rare-values",
            [column.clone()],
            format!(
                "{failing} rare values{null} have {lost} others with {} of the units withheld for the margins",
                percent(share(table.units_for_margins, table.units))
            ),
            "put rare values and NULL together in the view, as `other`, or leave their rows out of it",
        )
    })
}

/// Tables of one dimension of which most is lost: one that nobody can use.
fn mostly_withheld(table: &TableSurvey) -> Option<Finding> {
    let told = share(table.units_told, table.units);
    (table.keys.len() == 1 && table.units > 0 && told < WORTH).then(|| {
        let level = table.roll_up.as_ref();
        let level = level.map_or("its own values".to_owned(), |r| format!("`{r}`"));
        warning(
            "mostly-withheld",
            table.keys.clone(),
            format!(
                "by {level}, {} of the units are in withheld cells",
                percent(1.0 - told)
            ),
            "offer it coarser: truncate or group it in the view, or leave it out",
        )
    })
}

fn mostly_empty(table: &TableSurvey) -> Option<Finding> {
    let filled = share(table.cells, table.possible);
    (table.keys.len() > 1 && table.possible >= ENOUGH_ROWS && filled < EMPTY).then(|| {
        warning(
            "mostly-empty",
            table.keys.clone(),
            format!(
                "{} of the combinations have no units; they count as withheld",
                percent(1.0 - filled)
            ),
            "offer fewer dimensions in one product, or coarser ones; say `within` where a combination cannot be",
        )
    })
}

/// The cells that something is said of.
pub(crate) fn by(keys: &[ColumnName]) -> String {
    let names: Vec<&str> = keys.iter().map(ColumnName::as_str).collect();
    match names.as_slice() {
        [] => "of the whole product".to_owned(),
        names => format!("by {}", names.join(", ")),
    }
}

/// A share in words, to a tenth of a per cent.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

#[cfg(test)]
mod tests;
