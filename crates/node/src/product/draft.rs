//! A product file: what a department writes to say what it offers.

use super::budget;
use super::file::File;
use guildhall_grant::product::{
    Budget, DATE_TRUNC_UNITS, Dimension, Linkable, Measure, RollUp, RollUpKind,
};
use guildhall_model::{
    ColumnClass, ColumnName, Digest, ProductName, ProductRef, Purpose, ReleaseClass,
};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

/// Why a product file cannot be offered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProductError {
    /// Not TOML, or not of the form of a product file.
    #[error("{file}: {problem}")]
    Syntax {
        /// The file.
        file: String,
        /// Where and why, in the parser's words.
        problem: String,
    },
    /// A field does not do.
    #[error("{file}: `{field}` {problem}")]
    Field {
        /// The file.
        file: String,
        /// The field.
        field: String,
        /// What is the matter with it.
        problem: String,
    },
}

/// A product file whose parts fit each other. Whether they fit the data is for [`super::view`] to say.
#[derive(Debug, Clone)]
pub struct Draft {
    /// The file that it was read from, for messages.
    pub file: String,
    /// SHA-256 of the file.
    pub definition: Digest,
    /// The product's name within the department.
    pub name: ProductName,
    /// Its version, 1 at first.
    pub version: u32,
    /// What may leave the node.
    pub class: ReleaseClass,
    /// What it is, in a sentence.
    pub doc: String,
    /// What it is offered for.
    pub purposes: BTreeSet<Purpose>,
    /// The template that it shares with products of other councils.
    pub conforms_to: Option<ProductName>,
    /// The view's SQL over this node's datasets.
    pub view: String,
    /// A predicate over the view's columns that every row must meet.
    pub row_filter: Option<String>,
    /// The column that names the privacy unit.
    pub unit: Option<ColumnName>,
    /// The fewest distinct units that a released cell speaks of; 0 where cells are not weighed.
    pub minimum_group: u32,
    /// The most rows of one unit that count in one cell; 0 where cells are not weighed.
    pub max_rows_per_unit: u32,
    /// The products of the same template whose cells its own are released together with.
    pub joint_with: BTreeSet<ProductRef>,
    /// With whose rows its own may meet on their unit, if with any.
    pub linkable: Option<Linkable>,
    /// The columns, by name.
    pub columns: BTreeMap<ColumnName, ColumnDraft>,
    /// What may be grouped and filtered by.
    pub dimensions: Vec<Dimension>,
    /// What may be summed and averaged.
    pub measures: Vec<Measure>,
    /// What free questions may cost, by purpose; without one they are not answered. Their
    /// datasets are not known of the file alone.
    pub budgets: Vec<Budget>,
}

/// What a product file says of one column.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ColumnDraft {
    /// How it may be used.
    pub class: ColumnClass,
    /// What it is, in a sentence.
    #[serde(default)]
    pub doc: String,
    /// An expression over the view's columns that takes its place.
    #[serde(default)]
    pub mask: Option<String>,
}

impl Draft {
    /// Parses the text of `file` and checks that its parts fit each other.
    pub fn parse(text: &str, file: &str) -> Result<Self, ProductError> {
        let parsed: File = toml::from_str(text).map_err(|e| ProductError::Syntax {
            file: file.to_owned(),
            problem: e.to_string().trim_end().to_owned(),
        })?;
        let field = |(field, problem): Complaint| ProductError::Field {
            file: file.to_owned(),
            field,
            problem,
        };
        let draft = parsed.named(file, text).map_err(field)?;
        draft.check().map_err(field)?;
        Ok(draft)
    }

    /// An error that names a field of this file.
    pub(crate) fn error(
        &self,
        field: impl Into<String>,
        problem: impl Into<String>,
    ) -> ProductError {
        ProductError::Field {
            file: self.file.clone(),
            field: field.into(),
            problem: problem.into(),
        }
    }

    /// The class of a column.
    #[must_use]
    pub fn class_of(&self, column: &ColumnName) -> Option<ColumnClass> {
        self.columns.get(column).map(|c| c.class)
    }

    fn check(&self) -> Result<(), Complaint> {
        if self.version == 0 {
            return complain("version", "is 0; the first version is 1");
        }
        if self.purposes.is_empty() {
            return complain("purposes", "is empty; a product is offered for something");
        }
        if self.view.trim().is_empty() {
            return complain("view", "is empty");
        }
        match self.class {
            ReleaseClass::Warranted => {
                return complain("class", "is `warranted`, which this version does not serve");
            }
            ReleaseClass::Aggregate => self.check_aggregate()?,
            ReleaseClass::Open | ReleaseClass::Restricted => {}
        }
        self.dimensions
            .iter()
            .try_for_each(|d| self.check_dimension(d))?;
        self.measures
            .iter()
            .try_for_each(|m| self.check_measure(m))?;
        let may_join = self.class == ReleaseClass::Aggregate && self.conforms_to.is_some();
        if !self.joint_with.is_empty() && !may_join {
            return complain(
                "joint_with",
                "is set, though the product is not of class `aggregate` or conforms to no template; only cells of one template are put together",
            );
        }
        match &self.linkable {
            Some(_) if self.class != ReleaseClass::Aggregate => {
                return complain(
                    "linkable",
                    "is set, though the product is not of class `aggregate`; rows of other products are joined where they \
                     are asked for",
                );
            }
            Some(linkable) if linkable.with.is_empty() => {
                return complain(
                    "linkable.with",
                    "is empty; it names the products whose rows may meet these",
                );
            }
            Some(_) | None => {}
        }
        budget::check(self)
    }

    fn check_aggregate(&self) -> Result<(), Complaint> {
        let Some(unit) = &self.unit else {
            return complain(
                "unit",
                "is not set; an aggregate product names what it protects",
            );
        };
        match self.class_of(unit) {
            None => {
                return complain(
                    "unit",
                    format!("names `{unit}`, which is not among the columns"),
                );
            }
            Some(ColumnClass::Identifier | ColumnClass::Secret) => {}
            Some(other) => {
                return complain(
                    format!("columns.{unit}.class"),
                    format!("is `{other}`; the privacy unit is an `identifier`"),
                );
            }
        }
        if self.minimum_group < 2 {
            return complain("minimum_group", "is not set, or less than 2");
        }
        if self.max_rows_per_unit == 0 {
            return complain(
                "max_rows_per_unit",
                "is not set, or 0; it is the most rows of one unit that count in one cell",
            );
        }
        for (name, column) in &self.columns {
            let bounded = self.measures.iter().any(|m| m.column == *name);
            if column.class == ColumnClass::Measure && !bounded {
                return complain(
                    format!("columns.{name}.class"),
                    "is `measure`, but no [[measure]] gives its bounds",
                );
            }
        }
        Ok(())
    }

    fn check_dimension(&self, d: &Dimension) -> Result<(), Complaint> {
        let field = |part: &str| format!("dimension.{}{part}", d.column);
        match self.class_of(&d.column) {
            None => return complain(field(""), "is not among the columns"),
            Some(ColumnClass::Open | ColumnClass::Quasi) => {}
            Some(other) => {
                return complain(
                    format!("columns.{}.class", d.column),
                    format!("is `{other}`; a dimension is `open` or `quasi`"),
                );
            }
        }
        if let Some(within) = &d.within
            && !self.dimensions.iter().any(|o| o.column == *within)
        {
            let problem = format!("names `{within}`, which is no dimension");
            return complain(field(".within"), problem);
        }
        for RollUp { name, kind } in &d.roll_ups {
            match kind {
                RollUpKind::DateTrunc(unit) if !DATE_TRUNC_UNITS.contains(&unit.as_str()) => {
                    let known = DATE_TRUNC_UNITS.join(", ");
                    return complain(field(&format!(".{name}")), format!("is not one of {known}"));
                }
                RollUpKind::Group(values) if values.is_empty() => {
                    return complain(field(&format!(".{name}.values")), "is empty");
                }
                // What two groups share could be had by subtracting one from the other.
                RollUpKind::Group(values) if d.shares_with_another(name, values) => {
                    return complain(
                        field(&format!(".{name}.values")),
                        "has one that another group of the dimension has too",
                    );
                }
                RollUpKind::Group(values)
                    if !d.values.is_empty() && !values.iter().all(|v| d.values.contains(v)) =>
                {
                    return complain(
                        field(&format!(".{name}.values")),
                        "has one that the dimension does not",
                    );
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn check_measure(&self, m: &Measure) -> Result<(), Complaint> {
        let field = format!("measure.{}", m.column);
        match self.class_of(&m.column) {
            None => return complain(field, "is not among the columns"),
            Some(ColumnClass::Measure) => {}
            Some(other) => {
                return complain(
                    format!("columns.{}.class", m.column),
                    format!("is `{other}`, though [[measure]] gives it bounds"),
                );
            }
        }
        if !(m.lower.is_finite() && m.upper.is_finite() && m.lower < m.upper) {
            return complain(
                field,
                "has bounds that hold nothing: `lower` must be less than `upper`",
            );
        }
        Ok(())
    }
}

/// A field, and what is the matter with it.
pub(super) type Complaint = (String, String);

pub(super) fn complain<T>(
    field: impl Into<String>,
    problem: impl Into<String>,
) -> Result<T, Complaint> {
    Err((field.into(), problem.into()))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const SESSIONS: &str = r#"
        name = "sessions"
        version = 1
        class = "aggregate"
        doc = "Parking sessions"
        purposes = ["transport_planning"]
        view = "SELECT s.vehicle, c.ward, s.started, s.paid_pence FROM sessions s JOIN car_parks c ON s.car_park = c.car_park"
        unit = "vehicle"
        minimum_group = 10
        max_rows_per_unit = 60
        [columns]
        vehicle = { class = "identifier" }
        ward = { class = "quasi", doc = "Electoral ward" }
        started = { class = "quasi" }
        paid_pence = { class = "measure" }
        [[dimension]]
        column = "ward"
        [[dimension]]
        column = "started"
        roll_ups = [ { name = "month", date_trunc = "month" } ]
        [[measure]]
        column = "paid_pence"
        lower = 0
        upper = 5000
    "#;

    fn error(from: &str, to: &str) -> String {
        assert!(SESSIONS.contains(from), "{from}");
        Draft::parse(&SESSIONS.replace(from, to), "sessions.toml")
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn the_example_is_a_product() {
        let draft = Draft::parse(SESSIONS, "sessions.toml").unwrap();
        assert_eq!(draft.minimum_group, 10);
        assert_eq!(draft.columns.len(), 4);
        assert_eq!(draft.measures[0].upper, 5000.0);
    }

    #[test]
    fn an_unknown_key_is_named_with_its_file() {
        let error = error("purposes =", "minimum_grup = 3\npurposes =");
        assert!(
            error.starts_with("sessions.toml: ") && error.contains("minimum_grup"),
            "{error}"
        );
    }

    #[test]
    fn an_aggregate_product_names_its_unit_and_minimum() {
        assert!(error("unit = \"vehicle\"", "").contains("`unit` is not set"));
        assert!(error("minimum_group = 10", "").contains("`minimum_group`"));
        assert!(error("minimum_group = 10", "minimum_group = 1").contains("`minimum_group`"));
        assert!(error("max_rows_per_unit = 60", "").contains("`max_rows_per_unit`"));
    }

    #[test]
    fn the_unit_is_an_identifier() {
        let error = error(
            "vehicle = { class = \"identifier\" }",
            "vehicle = { class = \"open\" }",
        );
        assert!(
            error.contains("`columns.vehicle.class` is `open`"),
            "{error}"
        );
    }

    #[test]
    fn a_measure_has_bounds_that_hold_something() {
        assert!(error("upper = 5000", "upper = 0").contains("`measure.paid_pence`"));
        assert!(error("upper = 5000", "upper = nan").contains("`measure.paid_pence`"));
        let without = SESSIONS.split("[[measure]]").next().unwrap();
        let error = Draft::parse(without, "sessions.toml")
            .unwrap_err()
            .to_string();
        assert!(error.contains("`columns.paid_pence.class`"), "{error}");
    }

    #[test]
    fn a_roll_up_groups_by_one_thing_that_is_known() {
        assert!(error("date_trunc = \"month\"", "date_trunc = \"decade\"").contains("hour, day"));
        assert!(error("date_trunc = \"month\"", "").contains("either `date_trunc` or `values`"));
    }

    #[test]
    fn identifiers_and_measures_are_no_dimensions() {
        assert!(
            error("column = \"ward\"", "column = \"vehicle\"").contains("`columns.vehicle.class`")
        );
        assert!(error("column = \"ward\"", "column = \"wards\"").contains("`dimension.wards`"));
    }
}
