//! A product file as it is written: TOML, field by field.

use super::budget::BudgetFile;
use super::draft::{ColumnDraft, Complaint, Draft, complain};
use guildhall_grant::product::{Dimension, Linkable, Measure, RollUp, RollUpKind};
use guildhall_model::{
    ColumnName, Digest, DpiaReference, IdentityName, NameError, ProductName, ProductRef, Purpose,
    ReleaseClass,
};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    name: ProductName,
    version: u32,
    class: ReleaseClass,
    #[serde(default)]
    doc: String,
    purposes: BTreeSet<Purpose>,
    conforms_to: Option<ProductName>,
    view: String,
    row_filter: Option<String>,
    unit: Option<ColumnName>,
    minimum_group: Option<u32>,
    max_rows_per_unit: Option<u32>,
    #[serde(default)]
    joint_with: BTreeSet<String>,
    linkable: Option<LinkableFile>,
    columns: BTreeMap<String, ColumnDraft>,
    #[serde(default)]
    dimension: Vec<DimensionFile>,
    #[serde(default)]
    measure: Vec<MeasureFile>,
    #[serde(default)]
    budget: Vec<BudgetFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LinkableFile {
    identity: IdentityName,
    dpia: DpiaReference,
    with: BTreeSet<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DimensionFile {
    column: ColumnName,
    #[serde(default)]
    roll_ups: Vec<RollUpFile>,
    #[serde(default)]
    values: Vec<Scalar>,
    within: Option<ColumnName>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RollUpFile {
    name: String,
    date_trunc: Option<String>,
    values: Option<Vec<Scalar>>,
}

/// A registered value, which a file may write as text, number or truth.
#[derive(Deserialize)]
#[serde(untagged)]
enum Scalar {
    Text(String),
    Integer(i64),
    Boolean(bool),
}

impl From<Scalar> for String {
    fn from(s: Scalar) -> Self {
        match s {
            Scalar::Text(t) => t,
            Scalar::Integer(n) => n.to_string(),
            Scalar::Boolean(b) => b.to_string(),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MeasureFile {
    column: ColumnName,
    lower: f64,
    upper: f64,
}

impl File {
    pub(super) fn named(self, file: &str, text: &str) -> Result<Draft, Complaint> {
        let columns = self
            .columns
            .into_iter()
            .map(|(name, draft)| {
                let parsed = name
                    .parse()
                    .map_err(|e: NameError| (format!("columns.{name}"), e.to_string()))?;
                Ok((parsed, draft))
            })
            .collect::<Result<BTreeMap<ColumnName, ColumnDraft>, Complaint>>()?;
        let dimensions = self
            .dimension
            .into_iter()
            .map(DimensionFile::into_dimension)
            .collect::<Result<_, _>>()?;
        let measures = self
            .measure
            .into_iter()
            .map(|m| Measure {
                column: m.column,
                lower: m.lower,
                upper: m.upper,
            })
            .collect();
        let joint_with = products("joint_with", &self.joint_with)?;
        let linkable = self.linkable.map(LinkableFile::into_linkable).transpose()?;
        let budgets = self
            .budget
            .into_iter()
            .map(|b| b.into_budget(text))
            .collect::<Result<_, _>>()?;
        Ok(Draft {
            file: file.to_owned(),
            definition: Digest::of(text.as_bytes()),
            name: self.name,
            version: self.version,
            class: self.class,
            doc: self.doc,
            purposes: self.purposes,
            conforms_to: self.conforms_to,
            view: self.view,
            row_filter: self.row_filter,
            unit: self.unit,
            minimum_group: self.minimum_group.unwrap_or(0),
            max_rows_per_unit: self.max_rows_per_unit.unwrap_or(0),
            joint_with,
            linkable,
            columns,
            dimensions,
            measures,
            budgets,
        })
    }
}

/// The full names of products in a field.
fn products(field: &str, names: &BTreeSet<String>) -> Result<BTreeSet<ProductRef>, Complaint> {
    let parsed = names.iter().map(|name| {
        let problem = |e: NameError| (field.to_owned(), format!("names `{name}`: {e}"));
        name.parse().map_err(problem)
    });
    parsed.collect()
}

impl LinkableFile {
    fn into_linkable(self) -> Result<Linkable, Complaint> {
        Ok(Linkable {
            with: products("linkable.with", &self.with)?,
            identity: self.identity,
            dpia: self.dpia,
        })
    }
}

impl DimensionFile {
    fn into_dimension(self) -> Result<Dimension, Complaint> {
        let column = self.column;
        let roll_ups = self
            .roll_ups
            .into_iter()
            .map(|r| {
                let kind = match (r.date_trunc, r.values) {
                    (Some(unit), None) => RollUpKind::DateTrunc(unit),
                    (None, Some(values)) => {
                        RollUpKind::Group(values.into_iter().map(String::from).collect())
                    }
                    _ => {
                        return complain(
                            format!("dimension.{column}.{}", r.name),
                            "has to have either `date_trunc` or `values`",
                        );
                    }
                };
                Ok(RollUp { name: r.name, kind })
            })
            .collect::<Result<_, Complaint>>()?;
        let values = self.values.into_iter().map(String::from).collect();
        Ok(Dimension {
            column,
            roll_ups,
            values,
            within: self.within,
        })
    }
}
