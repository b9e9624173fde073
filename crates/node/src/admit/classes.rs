//! The class of every column of every relation, inferred bottom-up from the products that are read.
//!
//! For products whose class releases rows. What a plan says of itself counts for nothing: a relation or
//! expression that is not listed here is refused.
//!
//! A `quasi` column may be filtered by, in conditions over it and literals alone, and counted; an `identifier`
//! may be counted. What these rules do not hide: which rows a filter keeps. Whoever asks for the open columns of
//! the rows WHERE age = 42 learns the age of each, so a column that nobody may learn is `secret`, or its product
//! `aggregate`.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, DataFusionError, JoinType};
use datafusion::logical_expr::expr::InSubquery;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Aggregate, Distinct, Expr, Join, LogicalPlan, TableScan};
use guildhall_grant::product::Product;
use guildhall_model::{ColumnClass, ProductRef};
use guildhall_plan::profile::product_of;
use std::collections::BTreeMap;

/// How much of a person a column tells, least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Colour {
    /// It may leave in a row.
    Free,
    /// A column that may be filtered by and counted; it leaves in no row.
    Quasi,
    /// A column that may be counted; nothing else.
    Identifier,
    /// Computed from quasi columns: it may be filtered by, but a count or IS NULL of it tells its value.
    Derived,
    /// It may not be touched.
    Secret,
}

impl From<ColumnClass> for Colour {
    fn from(class: ColumnClass) -> Self {
        match class {
            // Bounds of a measure are for cells; a product that releases rows releases its values.
            ColumnClass::Open | ColumnClass::Measure => Self::Free,
            ColumnClass::Quasi => Self::Quasi,
            ColumnClass::Identifier => Self::Identifier,
            ColumnClass::Secret => Self::Secret,
        }
    }
}

impl Colour {
    fn word(self) -> &'static str {
        match self {
            Self::Free => "open",
            Self::Quasi | Self::Derived => "quasi",
            Self::Identifier => "identifier",
            Self::Secret => "secret",
        }
    }
}

/// Why rows of a plan may not leave.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ClassError {
    #[error("{what} is no part of a question over rows")]
    Unknown { what: String },
    #[error("a column of class `secret` may not be read")]
    Secret,
    #[error("a column of class `identifier` may be counted, but not {used}")]
    Identifier { used: &'static str },
    #[error(
        "a column of class `quasi` may be filtered by in rows, with literals alone, but not {used}"
    )]
    Quasi { used: &'static str },
    #[error("column {at} of the answer is `{class}`, which leaves in no row")]
    Output { at: usize, class: &'static str },
}

impl From<DataFusionError> for ClassError {
    fn from(_: DataFusionError) -> Self {
        Self::Unknown {
            what: "a plan that cannot be followed".to_owned(),
        }
    }
}

/// The products that a plan may read.
pub(crate) type Known<'a> = BTreeMap<ProductRef, &'a Product>;

/// Checks that every column of the answer may leave in a row.
pub(crate) fn check_rows(plan: &LogicalPlan, products: &Known<'_>) -> Result<(), ClassError> {
    let colours = Infer(products).relation(plan)?;
    match colours.iter().position(|c| *c != Colour::Free) {
        None => Ok(()),
        Some(at) => Err(ClassError::Output {
            at: at + 1,
            class: colours[at].word(),
        }),
    }
}

struct Infer<'a>(&'a Known<'a>);

impl Infer<'_> {
    fn relation(&self, plan: &LogicalPlan) -> Result<Vec<Colour>, ClassError> {
        match plan {
            LogicalPlan::TableScan(scan) => self.scan(scan),
            LogicalPlan::EmptyRelation(r) => Ok(vec![Colour::Free; r.schema.fields().len()]),
            LogicalPlan::Values(v) => Ok(vec![Colour::Free; v.schema.fields().len()]),
            LogicalPlan::SubqueryAlias(a) => self.relation(&a.input),
            LogicalPlan::Limit(l) => self.relation(&l.input),
            LogicalPlan::Projection(p) => {
                let input = self.input(&p.input)?;
                p.expr.iter().map(|e| self.value(e, &input)).collect()
            }
            LogicalPlan::Filter(f) => {
                let input = self.input(&f.input)?;
                self.predicate(&f.predicate, &input)?;
                Ok(input.colours)
            }
            LogicalPlan::Sort(s) => {
                let input = self.input(&s.input)?;
                for e in &s.expr {
                    self.free(&e.expr, &input, "sorted by")?;
                }
                Ok(input.colours)
            }
            LogicalPlan::Distinct(Distinct::All(inner)) => grouped(self.relation(inner)?, true),
            LogicalPlan::Aggregate(a) => self.aggregate(a),
            LogicalPlan::Window(w) => {
                let input = self.input(&w.input)?;
                let mut colours = input.colours.clone();
                for e in &w.window_expr {
                    colours.push(self.value(e, &input)?);
                }
                Ok(colours)
            }
            LogicalPlan::Union(u) => self.union(&u.inputs),
            LogicalPlan::Join(j) => self.join(j),
            _ => Err(ClassError::Unknown {
                what: "a relation of this kind".to_owned(),
            }),
        }
    }

    fn input<'p>(&self, plan: &'p LogicalPlan) -> Result<Input<'p>, ClassError> {
        let colours = self.relation(plan)?;
        Input::new(plan.schema(), colours)
    }

    fn scan(&self, scan: &TableScan) -> Result<Vec<Colour>, ClassError> {
        let product = product_of(&scan.table_name)
            .ok()
            .and_then(|p| self.0.get(&p));
        let Some(product) = product else {
            return Err(ClassError::Unknown {
                what: "a table that is no product here".to_owned(),
            });
        };
        let colour = |name: &str| {
            let class = product.column(name).map(|c| Colour::from(c.class));
            class.ok_or_else(|| ClassError::Unknown {
                what: "a column that its product does not have".to_owned(),
            })
        };
        // A filter of a scan may name columns that the scan does not give.
        let whole = scan.source.schema();
        let colours = whole.fields().iter().map(|f| colour(f.name()));
        let colours = colours.collect::<Result<Vec<_>, _>>()?;
        let schema = DFSchema::try_from_qualified_schema(scan.table_name.clone(), &whole)?;
        let input = Input::of(std::borrow::Cow::Owned(schema), colours)?;
        for filter in &scan.filters {
            if has_subquery(filter)? {
                return Err(ClassError::Unknown {
                    what: "a sub-query in a scan".to_owned(),
                });
            }
            self.predicate(filter, &input)?;
        }
        let read = scan.projected_schema.fields().iter();
        read.map(|f| match colour(f.name())? {
            Colour::Secret => Err(ClassError::Secret),
            colour => Ok(colour),
        })
        .collect()
    }

    fn aggregate(&self, a: &Aggregate) -> Result<Vec<Colour>, ClassError> {
        let input = self.input(&a.input)?;
        let keys = a
            .group_expr
            .iter()
            .map(|e| self.value(e, &input))
            .collect::<Result<Vec<_>, _>>()?;
        let keys = grouped(keys, a.aggr_expr.is_empty())?;
        // A grouping set gives more columns than it has expressions: each counts as the worst of them.
        let outputs = a.schema.fields().len().saturating_sub(a.aggr_expr.len());
        let mut colours = match keys.len() == outputs {
            true => keys,
            false => vec![keys.into_iter().max().unwrap_or(Colour::Free); outputs],
        };
        for e in &a.aggr_expr {
            colours.push(self.value(e, &input)?);
        }
        Ok(colours)
    }

    fn union(&self, inputs: &[std::sync::Arc<LogicalPlan>]) -> Result<Vec<Colour>, ClassError> {
        let mut all: Option<Vec<Colour>> = None;
        for input in inputs {
            let colours = self.relation(input)?;
            all = Some(match all {
                None => colours,
                Some(before) if before.len() == colours.len() => {
                    let pairs = before.into_iter().zip(colours);
                    pairs.map(|(a, b)| united(a, b)).collect::<Result<_, _>>()?
                }
                Some(_) => {
                    return Err(ClassError::Unknown {
                        what: "a union of unlike relations".to_owned(),
                    });
                }
            });
        }
        all.ok_or_else(|| ClassError::Unknown {
            what: "a union of nothing".to_owned(),
        })
    }

    fn join(&self, j: &Join) -> Result<Vec<Colour>, ClassError> {
        let (left, right) = (self.input(&j.left)?, self.input(&j.right)?);
        let both = Input::new_joined(&left, &right)?;
        let used = "joined on outside a clean room";
        for (l, r) in &j.on {
            self.free(l, &left, used)?;
            self.free(r, &right, used)?;
        }
        if let Some(filter) = &j.filter {
            self.free(filter, &both, used)?;
        }
        Ok(match j.join_type {
            JoinType::Inner | JoinType::Left | JoinType::Right | JoinType::Full => both.colours,
            JoinType::LeftSemi | JoinType::LeftAnti => left.colours,
            JoinType::RightSemi | JoinType::RightAnti => right.colours,
            JoinType::LeftMark => [left.colours, vec![Colour::Free]].concat(),
            JoinType::RightMark => [right.colours, vec![Colour::Free]].concat(),
        })
    }

    /// The colour of an expression's value.
    fn value(&self, e: &Expr, input: &Input<'_>) -> Result<Colour, ClassError> {
        match e {
            Expr::Alias(a) => self.value(&a.expr, input),
            Expr::Column(c) => {
                let at = input.schema.index_of_column(c)?;
                match input.colours.get(at).copied() {
                    None => Err(ClassError::Unknown {
                        what: "a column out of range".to_owned(),
                    }),
                    Some(Colour::Secret) => Err(ClassError::Secret),
                    Some(colour) => Ok(colour),
                }
            }
            // Whether a column has a value at all: what a count would say too. Of a computed value it tells more.
            Expr::IsNull(inner) | Expr::IsNotNull(inner) => self.presence(inner, input),
            Expr::AggregateFunction(f) => {
                if let Some(filter) = &f.params.filter {
                    self.free(filter, input, "counted by a condition of its own")?;
                }
                for s in &f.params.order_by {
                    self.free(&s.expr, input, "sorted by")?;
                }
                if matches!(f.func.name(), "count" | "approx_distinct") {
                    return f.params.args.iter().try_fold(Colour::Free, |worst, e| {
                        Ok(worst.max(self.presence(e, input)?))
                    });
                }
                computed(self.worst(&f.params.args, input)?)
            }
            // A window can be as narrow as a row: there is no count over many in it.
            Expr::WindowFunction(w) => {
                let p = &w.params;
                for e in &p.partition_by {
                    self.free(e, input, "partitioned by")?;
                }
                for s in &p.order_by {
                    self.free(&s.expr, input, "sorted by")?;
                }
                if let Some(filter) = &p.filter {
                    self.free(filter, input, "counted by a condition of its own")?;
                }
                computed(self.worst(&p.args, input)?)
            }
            Expr::ScalarSubquery(s) => {
                let colours = self.relation(&s.subquery)?;
                computed(colours.into_iter().max().unwrap_or(Colour::Free))
            }
            Expr::Exists(x) => self.relation(&x.subquery.subquery).map(|_| Colour::Free),
            Expr::InSubquery(InSubquery { expr, subquery, .. }) => {
                for colour in self.relation(&subquery.subquery)? {
                    computed(colour)?;
                    if colour != Colour::Free {
                        return Err(ClassError::Quasi { used: "listed" });
                    }
                }
                computed(self.value(expr, input)?)
            }
            Expr::GroupingSet(_)
            | Expr::Literal(..)
            | Expr::BinaryExpr(_)
            | Expr::Like(_)
            | Expr::SimilarTo(_)
            | Expr::Not(_)
            | Expr::IsTrue(_)
            | Expr::IsFalse(_)
            | Expr::IsUnknown(_)
            | Expr::IsNotTrue(_)
            | Expr::IsNotFalse(_)
            | Expr::IsNotUnknown(_)
            | Expr::Negative(_)
            | Expr::Between(_)
            | Expr::Case(_)
            | Expr::Cast(_)
            | Expr::TryCast(_)
            | Expr::ScalarFunction(_)
            | Expr::InList(_) => {
                let mut parts = Vec::new();
                e.apply_children(|child| {
                    parts.push(child.clone());
                    Ok(TreeNodeRecursion::Continue)
                })?;
                computed(self.worst(&parts, input)?)
            }
            other => Err(ClassError::Unknown {
                what: format!("the expression `{}`", other.variant_name()),
            }),
        }
    }

    fn worst(&self, parts: &[Expr], input: &Input<'_>) -> Result<Colour, ClassError> {
        parts.iter().try_fold(
            Colour::Free,
            |worst, e| Ok(worst.max(self.value(e, input)?)),
        )
    }

    /// What it tells that a value is there: nothing of a column as it stands, all of a computed value.
    fn presence(&self, e: &Expr, input: &Input<'_>) -> Result<Colour, ClassError> {
        let colour = self.value(e, input)?;
        Ok(match (unnamed(e), colour) {
            (Expr::Column(_), Colour::Quasi | Colour::Identifier) => Colour::Free,
            _ => colour,
        })
    }

    /// Checks a filter: whatever of it touches quasi columns touches nothing else.
    fn predicate(&self, e: &Expr, input: &Input<'_>) -> Result<(), ClassError> {
        for part in split_conjunction(e) {
            match self.value(part, input)? {
                Colour::Free => {}
                Colour::Quasi | Colour::Derived => self.alone(part, input)?,
                Colour::Identifier | Colour::Secret => {
                    return Err(ClassError::Identifier {
                        used: "filtered by",
                    });
                }
            }
        }
        Ok(())
    }

    /// Checks that a condition has no columns but quasi ones: compared with others it would be read off them.
    fn alone(&self, e: &Expr, input: &Input<'_>) -> Result<(), ClassError> {
        let used = "compared with anything else";
        if has_subquery(e)? {
            return Err(ClassError::Quasi { used });
        }
        for column in e.column_refs() {
            match self.value(&Expr::Column(column.clone()), input)? {
                Colour::Quasi | Colour::Derived => {}
                _ => return Err(ClassError::Quasi { used }),
            }
        }
        Ok(())
    }

    fn free(&self, e: &Expr, input: &Input<'_>, used: &'static str) -> Result<(), ClassError> {
        match self.value(e, input)? {
            Colour::Free => Ok(()),
            Colour::Quasi | Colour::Derived => Err(ClassError::Quasi { used }),
            Colour::Identifier | Colour::Secret => Err(ClassError::Identifier { used }),
        }
    }
}

/// A relation's columns and their colours.
struct Input<'p> {
    schema: std::borrow::Cow<'p, DFSchema>,
    colours: Vec<Colour>,
}

impl<'p> Input<'p> {
    fn new(schema: &'p DFSchema, colours: Vec<Colour>) -> Result<Self, ClassError> {
        Self::of(std::borrow::Cow::Borrowed(schema), colours)
    }

    fn new_joined(left: &Self, right: &Self) -> Result<Self, ClassError> {
        let schema = left.schema.join(&right.schema)?;
        let colours = [left.colours.as_slice(), right.colours.as_slice()].concat();
        Self::of(std::borrow::Cow::Owned(schema), colours)
    }

    fn of(
        schema: std::borrow::Cow<'p, DFSchema>,
        colours: Vec<Colour>,
    ) -> Result<Self, ClassError> {
        if schema.fields().len() != colours.len() {
            return Err(ClassError::Unknown {
                what: "a relation of another width".to_owned(),
            });
        }
        Ok(Self { schema, colours })
    }
}

/// Groups keep their colours. By what may not leave rows are told apart to be counted, and for nothing else.
fn grouped(keys: Vec<Colour>, nothing_else: bool) -> Result<Vec<Colour>, ClassError> {
    let used = "grouped by";
    match keys.iter().max().copied().unwrap_or(Colour::Free) {
        Colour::Derived => Err(ClassError::Quasi { used }),
        Colour::Quasi if !nothing_else => Err(ClassError::Quasi { used }),
        Colour::Identifier if !nothing_else => Err(ClassError::Identifier { used }),
        _ => Ok(keys),
    }
}

/// The colour of what is computed from a value.
fn computed(from: Colour) -> Result<Colour, ClassError> {
    match from {
        Colour::Free => Ok(Colour::Free),
        Colour::Quasi | Colour::Derived => Ok(Colour::Derived),
        Colour::Identifier => Err(ClassError::Identifier {
            used: "computed with",
        }),
        Colour::Secret => Err(ClassError::Secret),
    }
}

/// The colour of a column that is one in some rows and another in others.
fn united(a: Colour, b: Colour) -> Result<Colour, ClassError> {
    match (a, b) {
        (Colour::Identifier, Colour::Derived) | (Colour::Derived, Colour::Identifier) => {
            Err(ClassError::Identifier {
                used: "united with another",
            })
        }
        _ => Ok(a.max(b)),
    }
}

fn unnamed(mut e: &Expr) -> &Expr {
    while let Expr::Alias(a) = e {
        e = &a.expr;
    }
    e
}

fn has_subquery(e: &Expr) -> Result<bool, DataFusionError> {
    e.exists(|e| {
        Ok(matches!(
            e,
            Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_)
        ))
    })
}
