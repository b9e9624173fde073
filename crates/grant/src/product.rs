//! A product as its node registered it: what is offered, to whom it may answer, and which
//! dataset columns an answer reads. The view's SQL stays at the node.

mod budget;
mod wire;

pub use budget::{Budget, BudgetPeriod, NanoRho, NanoRhoError};

use crate::wire::WireError;
use guildhall_model::{
    ColumnClass, ColumnName, CouncilName, DatasetName, DepartmentName, Digest, DpiaReference,
    IdentityName, PeerId, ProductName, ProductRef, Purpose, ReleaseClass, Role,
};
use std::collections::BTreeSet;

/// A named, versioned view that a department offers.
#[derive(Debug, Clone, PartialEq)]
pub struct Product {
    /// The council that the department belongs to.
    pub council: CouncilName,
    /// The department that owns it.
    pub department: DepartmentName,
    /// Its name within the department.
    pub name: ProductName,
    /// Its version, 1 at first.
    pub version: u32,
    /// What it is, in a sentence.
    pub doc: String,
    /// What may leave the node.
    pub class: ReleaseClass,
    /// What it is offered for.
    pub purposes: BTreeSet<Purpose>,
    /// The template that same-shaped products of other councils share.
    pub conforms_to: Option<ProductName>,
    /// The column that names the privacy unit.
    pub unit: Option<ColumnName>,
    /// The fewest distinct units that a released cell speaks of.
    pub minimum_group: u32,
    /// The most rows of one unit that count in one cell; 0 where cells are not weighed.
    pub max_rows_per_unit: u32,
    /// Every column of the view, in its order.
    pub columns: Vec<Column>,
    /// What may be grouped and filtered by.
    pub dimensions: Vec<Dimension>,
    /// What may be summed and averaged.
    pub measures: Vec<Measure>,
    /// The view's schema, an Arrow IPC encapsulated Schema message.
    pub arrow_schema: Vec<u8>,
    /// SHA-256 of the product file.
    pub definition: Digest,
    /// Rows, of open products only, for planning.
    pub row_count: Option<u64>,
    /// Dataset columns that every question reads.
    pub always_reads: BTreeSet<DatasetColumn>,
    /// The node that serves it.
    pub node: PeerId,
    /// What free questions may cost, one budget a purpose; without one there is no ad hoc lane.
    pub budgets: Vec<Budget>,
    /// The products of the same template whose cells its own are released together with: all of them or none, since two
    /// releases that differed by one would tell of that one's cells. None of its units is one of theirs.
    pub joint_with: BTreeSet<ProductRef>,
    /// With whose rows its own may meet on their unit, if with any.
    pub linkable: Option<Linkable>,
}

/// What a department agrees to have its rows linked with, in a clean room, for released cells alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Linkable {
    /// What the unit is, called the same by all whose rows meet.
    pub identity: IdentityName,
    /// The data protection impact assessment that allows it.
    pub dpia: DpiaReference,
    /// Whose rows; each of them says the same of this one.
    pub with: BTreeSet<ProductRef>,
}

/// A column of a product.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name in the view.
    pub name: ColumnName,
    /// How it may be used.
    pub class: ColumnClass,
    /// What it is, in a sentence.
    pub doc: String,
    /// The dataset columns whose keys a question over it needs.
    pub reads: BTreeSet<DatasetColumn>,
}

/// A column of a dataset at rest.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DatasetColumn {
    /// The dataset.
    pub dataset: DatasetName,
    /// Its column.
    pub column: ColumnName,
}

/// A column to group and filter by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dimension {
    /// The column.
    pub column: ColumnName,
    /// Its coarser groupings.
    pub roll_ups: Vec<RollUp>,
    /// The registered values as text; empty if not declared.
    pub values: Vec<String>,
    /// The dimension of which one value holds each value of this one, as a ward holds a car park.
    pub within: Option<ColumnName>,
}

/// A coarser grouping of a dimension.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RollUp {
    /// Its name.
    pub name: String,
    /// How it groups.
    pub kind: RollUpKind,
}

/// How a roll-up groups.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum RollUpKind {
    /// By a unit of `date_trunc`.
    DateTrunc(String),
    /// One named group of values.
    Group(Vec<String>),
}

/// A column to sum and average, with the bounds of one unit's total within one cell.
#[derive(Debug, Clone, PartialEq)]
pub struct Measure {
    /// The column.
    pub column: ColumnName,
    /// The least.
    pub lower: f64,
    /// The most.
    pub upper: f64,
}

/// The purpose whose questions are answered from a product's synthetic twin: no data is read for them, and nothing is
/// debited.
pub const DEVELOPMENT: &str = "development";

/// The units of `date_trunc` that a roll-up may name.
pub const DATE_TRUNC_UNITS: [&str; 6] = ["hour", "day", "week", "month", "quarter", "year"];

impl Product {
    /// Its full name.
    #[must_use]
    pub fn product_ref(&self) -> ProductRef {
        ProductRef {
            council: self.council.clone(),
            department: self.department.clone(),
            product: self.name.clone(),
        }
    }

    /// The column of that name.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|c| c.name.as_str() == name)
    }

    /// The dimension over the column of that name.
    #[must_use]
    pub fn dimension(&self, column: &str) -> Option<&Dimension> {
        self.dimensions.iter().find(|d| d.column.as_str() == column)
    }

    /// The measure over the column of that name.
    #[must_use]
    pub fn measure(&self, column: &str) -> Option<&Measure> {
        self.measures.iter().find(|m| m.column.as_str() == column)
    }

    /// The budget for that purpose, if there is one.
    #[must_use]
    pub fn budget(&self, purpose: &Purpose) -> Option<&Budget> {
        self.budgets.iter().find(|b| b.purpose == *purpose)
    }

    /// The budget on whose terms a free question for `purpose` is answered. For [`DEVELOPMENT`], which is charged
    /// nothing, that is the first one if it has none of its own, so that a twin answers as its product would.
    #[must_use]
    pub fn terms(&self, purpose: &Purpose) -> Option<&Budget> {
        let stand_in = self.budgets.first();
        let stand_in = stand_in.filter(|_| purpose.as_str() == DEVELOPMENT);
        self.budget(purpose).or(stand_in)
    }

    /// The dataset columns that a question over `columns` reads: theirs, those of the dimensions that they lie within,
    /// by which cells are weighed, and those that every question reads. A name that is no column of the product reads
    /// nothing.
    pub fn reads_of<'a>(
        &self,
        columns: impl IntoIterator<Item = &'a ColumnName>,
    ) -> BTreeSet<DatasetColumn> {
        let mut reads = self.always_reads.clone();
        let columns = columns.into_iter().flat_map(|c| self.with_outer(c));
        for column in columns.filter_map(|name| self.column(name.as_str())) {
            reads.extend(column.reads.iter().cloned());
        }
        reads
    }

    /// A column, and the dimensions that it lies within.
    fn with_outer<'a>(&'a self, column: &'a ColumnName) -> impl Iterator<Item = &'a ColumnName> {
        let outer = |inner: &&'a ColumnName| {
            let dimension = self.dimension(inner.as_str());
            dimension.and_then(|d| d.within.as_ref())
        };
        // A product whose dimensions lie within each other in a circle is refused; should one come all the same, this ends.
        std::iter::successors(Some(column), outer).take(self.dimensions.len().saturating_add(1))
    }

    /// Whether the parts fit each other, as [`crate::Statement::from_wire`] also demands.
    ///
    /// A product whose class is `aggregate` names its unit and a minimum group, and alone has
    /// budgets; no count of rows of a product that is not open is published.
    pub fn check(&self) -> Result<(), WireError> {
        if self.version == 0 {
            return Err(WireError::Rule {
                field: "version",
                rule: "is 0; the first version is 1",
            });
        }
        if self.columns.is_empty() {
            return Err(WireError::Missing { field: "columns" });
        }
        once("columns", self.columns.iter().map(|c| &c.name))?;
        once("dimensions", self.dimensions.iter().map(|d| &d.column))?;
        once("measures", self.measures.iter().map(|m| &m.column))?;
        self.known("unit", self.unit.iter())?;
        self.known("dimensions", self.dimensions.iter().map(|d| &d.column))?;
        self.known("measures", self.measures.iter().map(|m| &m.column))?;
        self.dimensions.iter().try_for_each(Dimension::check)?;
        self.dimensions
            .iter()
            .try_for_each(|d| self.check_within(d))?;
        self.measures.iter().try_for_each(Measure::check)?;
        self.check_class()?;
        self.check_budgets()?;
        let PeerId {
            council,
            department,
            role,
            ..
        } = &self.node;
        if (council, department, *role) != (&self.council, &self.department, Role::Node) {
            return Err(WireError::Rule {
                field: "node",
                rule: "is no node of the department",
            });
        }
        Ok(())
    }

    fn check_class(&self) -> Result<(), WireError> {
        if self.class == ReleaseClass::Aggregate {
            if self.unit.is_none() {
                return Err(WireError::Missing { field: "unit" });
            }
            if self.minimum_group == 0 {
                return Err(WireError::Rule {
                    field: "minimum_group",
                    rule: "is 0",
                });
            }
            if self.max_rows_per_unit == 0 {
                return Err(WireError::Rule {
                    field: "max_rows_per_unit",
                    rule: "is 0",
                });
            }
        }
        self.check_joint()?;
        self.check_linkable()?;
        if self.class != ReleaseClass::Open && self.row_count.is_some() {
            return Err(WireError::Rule {
                field: "row_count",
                rule: "is published, though the product is not open",
            });
        }
        Ok(())
    }

    fn check_joint(&self) -> Result<(), WireError> {
        let rule = |rule| {
            let field = "joint_with";
            Err(WireError::Rule { field, rule })
        };
        let may_join = self.class == ReleaseClass::Aggregate && self.conforms_to.is_some();
        if !self.joint_with.is_empty() && !may_join {
            return rule(
                "is set, though the product is not one of cells that conforms to a template",
            );
        }
        let own = |p: &ProductRef| p.council == self.council && p.department == self.department;
        if self.joint_with.iter().any(own) {
            return rule("names a product of the department's own; its units would count twice");
        }
        Ok(())
    }

    fn check_linkable(&self) -> Result<(), WireError> {
        let Some(linkable) = &self.linkable else {
            return Ok(());
        };
        let rule = |rule| {
            let field = "linkable";
            Err(WireError::Rule { field, rule })
        };
        if self.class != ReleaseClass::Aggregate {
            return rule("is set, though the product is not one of cells");
        }
        if linkable.with.is_empty() {
            return rule("names no product");
        }
        let own = |p: &ProductRef| p.council == self.council && p.department == self.department;
        if linkable.with.iter().any(own) {
            return rule("names a product of the department's own; its view may join that itself");
        }
        if linkable.with.iter().any(|p| p.council != self.council) {
            return rule("names a product of another council");
        }
        Ok(())
    }

    /// Whether this product and `other` agree that their rows may meet: each names the other, and both call the unit the
    /// same.
    #[must_use]
    pub fn links_with(&self, other: &Self) -> bool {
        let names = |a: &Self, b: &Self| {
            let linkable = a.linkable.as_ref();
            linkable.is_some_and(|l| l.with.contains(&b.product_ref()))
        };
        let identity = |p: &Self| p.linkable.as_ref().map(|l| l.identity.clone());
        names(self, other) && names(other, self) && identity(self) == identity(other)
    }

    /// Each dimension lies within another one, and in the end in none.
    fn check_within(&self, of: &Dimension) -> Result<(), WireError> {
        let mut at = of;
        for _ in 0..=self.dimensions.len() {
            let Some(within) = &at.within else {
                return Ok(());
            };
            at = self
                .dimension(within.as_str())
                .ok_or_else(|| WireError::NoSuchColumn {
                    field: "dimensions.within",
                    name: within.to_string(),
                })?;
        }
        Err(WireError::Rule {
            field: "dimensions.within",
            rule: "goes round in a circle",
        })
    }

    fn check_budgets(&self) -> Result<(), WireError> {
        let rule = |rule| {
            Err(WireError::Rule {
                field: "budgets",
                rule,
            })
        };
        if self.budgets.is_empty() {
            return Ok(());
        }
        if self.class != ReleaseClass::Aggregate {
            return rule("is given, though the class is not `aggregate`");
        }
        let unit = self.unit.as_ref().and_then(|u| self.column(u.as_str()));
        let read = |d: &DatasetName| unit.iter().flat_map(|u| &u.reads).any(|r| r.dataset == *d);
        let mut seen = BTreeSet::new();
        for budget in &self.budgets {
            budget.check()?;
            if !budget.datasets.iter().all(read) {
                return rule("is of a dataset that the unit is not read from");
            }
            if !self.purposes.contains(&budget.purpose) {
                return rule("is for a purpose that the product is not offered for");
            }
            if !seen.insert(&budget.purpose) {
                return Err(WireError::Twice {
                    field: "budgets",
                    name: budget.purpose.to_string(),
                });
            }
        }
        Ok(())
    }

    fn known<'a>(
        &self,
        field: &'static str,
        mut names: impl Iterator<Item = &'a ColumnName>,
    ) -> Result<(), WireError> {
        match names.find(|n| self.column(n.as_str()).is_none()) {
            Some(n) => Err(WireError::NoSuchColumn {
                field,
                name: n.to_string(),
            }),
            None => Ok(()),
        }
    }
}

impl Dimension {
    /// Whether a group other than that of `name` has one of `values`.
    #[must_use]
    pub fn shares_with_another(&self, name: &str, values: &[String]) -> bool {
        self.roll_ups.iter().any(|other| match &other.kind {
            RollUpKind::Group(theirs) => {
                other.name != name && values.iter().any(|v| theirs.contains(v))
            }
            RollUpKind::DateTrunc(_) => false,
        })
    }

    fn check(&self) -> Result<(), WireError> {
        let mut seen = BTreeSet::new();
        for RollUp { name, kind } in &self.roll_ups {
            if name.is_empty() {
                return Err(WireError::Missing {
                    field: "dimensions.roll_ups.name",
                });
            }
            if !seen.insert(name) {
                return Err(WireError::Twice {
                    field: "dimensions.roll_ups",
                    name: name.clone(),
                });
            }
            match kind {
                RollUpKind::DateTrunc(unit) if !DATE_TRUNC_UNITS.contains(&unit.as_str()) => {
                    return Err(WireError::Rule {
                        field: "dimensions.roll_ups.date_trunc",
                        rule: "is not one of hour, day, week, month, quarter, year",
                    });
                }
                RollUpKind::Group(values) if values.is_empty() => {
                    return Err(WireError::Missing {
                        field: "dimensions.roll_ups.group",
                    });
                }
                RollUpKind::Group(values) if self.shares_with_another(name, values) => {
                    return Err(WireError::Rule {
                        field: "dimensions.roll_ups.group",
                        rule: "has a value that another group has too",
                    });
                }
                RollUpKind::DateTrunc(_) | RollUpKind::Group(_) => {}
            }
        }
        Ok(())
    }
}

impl Measure {
    fn check(&self) -> Result<(), WireError> {
        let Self { lower, upper, .. } = self;
        if lower.is_finite() && upper.is_finite() && lower <= upper {
            Ok(())
        } else {
            Err(WireError::Rule {
                field: "measures",
                rule: "has bounds that are not two finite numbers in order",
            })
        }
    }
}

fn once<'a>(
    field: &'static str,
    names: impl Iterator<Item = &'a ColumnName>,
) -> Result<(), WireError> {
    let mut seen = BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(WireError::Twice {
                field,
                name: name.to_string(),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
