//! What is run of an admitted fragment: the node's own plans, over tables that have no keys yet.

use super::lattice::Lattice;
use super::patterns::{PatternKey, Patterns, Standing};
use super::{Permitted, Runner, adhoc, cells, expand, facts, patterns, total};
use crate::admit::{AdmittedFragment, Shape};
use crate::engine::Engine;
use crate::error::RunError;
use crate::product::{Rows, Served, View};
use crate::run::FreshGrant;
use arrow::array::RecordBatch;
use datafusion::common::TableReference;
use datafusion::logical_expr::LogicalPlan;
use guildhall_cube::{Asked, Question, internal};
use guildhall_disclosure::{CellRule, NoiseSecret};
use guildhall_grant::Statement as _;
use guildhall_model::{DatasetName, IdentityName, ProductRef};
use guildhall_plan::adhoc::AdHocQuery;
use guildhall_plan::cube::CubeQuery;
use guildhall_proto::node::v1::Terms;
use guildhall_store::{LentKeys, SealedDataset};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Sets the draws of cells of rows that meet others apart from all other draws: who knows the one learns nothing of the
/// other.
const LINKED: &str = "guildhall linked";

/// An optimised plan over this node's datasets, without keys.
pub(super) struct Planned {
    pub(super) grant: FreshGrant,
    pub(super) work: PlannedWork,
    pub(super) source: Source,
}

/// What a plan reads.
pub(super) enum Source {
    /// Datasets at rest, with keys that are lent for it.
    Sealed {
        datasets: BTreeMap<DatasetName, Arc<SealedDataset>>,
        lent: LentKeys,
    },
    /// Synthetic twins: there is nothing to lend, and nothing to charge for.
    Made,
}

impl Source {
    fn of<'a>(served: impl Iterator<Item = &'a Arc<Served>>, lent: LentKeys) -> Self {
        let (mut datasets, mut made) = (BTreeMap::new(), true);
        for product in served {
            made &= matches!(product.rows(), Rows::Made(..));
            datasets.extend(product.datasets().clone());
        }
        match made {
            true => Self::Made,
            false => Self::Sealed { datasets, lent },
        }
    }
}

/// What is to be run.
pub(super) enum PlannedWork {
    /// One plan, whose rows leave.
    Rows(LogicalPlan),
    /// The lattice that cells lie in.
    Cells(Box<PlannedCells>),
    /// One plan, over whose cells noise is drawn.
    AdHoc(Box<adhoc::PlannedAdHoc>),
}

/// How an answer of cells is found.
pub(super) struct PlannedCells {
    pub(super) asked: Asked,
    pub(super) shelved: patterns::Shelved,
    pub(super) standing: Standing,
    pub(super) lattice: Arc<Lattice>,
    pub(super) terms: Terms,
    /// What the noise of cells of rows that meet others is of, in place of what the terms say.
    pub(super) linked_secret: NoiseSecret,
    /// What the unit is called among those whose rows may meet.
    pub(super) identity: Option<IdentityName>,
    /// Of what.
    pub(super) product: ProductRef,
}

impl PlannedCells {
    /// The cells that were asked for, and how they are weighed; worked out if nobody has yet.
    pub(super) async fn found(
        self,
        engine: Engine,
        patterns: Arc<Patterns>,
    ) -> Result<(RecordBatch, CellRule), RunError> {
        let work_out = || patterns.known(&self.standing, &self.lattice, &engine);
        let known = self.shelved.get_or_try_init(work_out).await?;
        let cells = self.asked.of(known);
        cells.map_err(|source| RunError::Encode { source })
    }
}

impl PlannedWork {
    /// Every plan, whose reads need keys.
    pub(super) fn plans(&self) -> Box<dyn Iterator<Item = &LogicalPlan> + '_> {
        match self {
            Self::Rows(plan) => Box::new(std::iter::once(plan)),
            Self::Cells(cells) => Box::new(std::iter::once(&cells.lattice.plan)),
            Self::AdHoc(work) => Box::new(std::iter::once(&work.plan)),
        }
    }
}

impl Runner {
    /// Expands and optimises; from here on the columns that will be read stand fast.
    pub(super) fn plan(
        &self,
        permitted: Permitted,
        cell_status: bool,
    ) -> Result<Planned, RunError> {
        let Permitted(admitted) = permitted;
        let lent = LentKeys::default();
        let tables = expand::tables(admitted.products().values(), &lent)?;
        let work = match admitted.shape() {
            Shape::Rows(plan) => {
                let mut plan = expand::expand(plan.clone(), admitted.products(), &tables)?;
                let served = admitted.products().values();
                if !served.map(|s| s.view()).all(View::keeps_every_row) {
                    // Invariant: an error tells of no row that the owner's view keeps back.
                    plan = total::total(self.engine.analysed(plan)?)?;
                }
                PlannedWork::Rows(self.engine.optimise(&plan)?)
            }
            Shape::Cells(query) => {
                let planned = self.plan_cells(query, cell_status, admitted.products(), &tables);
                PlannedWork::Cells(Box::new(planned?))
            }
            Shape::AdHoc(query) => {
                let planned = self.plan_ad_hoc(query, cell_status, &admitted, &tables);
                PlannedWork::AdHoc(Box::new(planned?))
            }
        };
        Ok(Planned {
            grant: admitted.grant().clone(),
            work,
            source: Source::of(admitted.products().values(), lent),
        })
    }

    /// How the answer to a question of cells is taken from its lattice, and the plan of the rows that this is made of:
    /// their keys are borrowed for every question, whether they are read again or not.
    fn plan_cells(
        &self,
        query: &CubeQuery,
        cell_status: bool,
        products: &expand::ServedProducts,
        tables: &expand::Tables,
    ) -> Result<PlannedCells, RunError> {
        let served = products
            .get(&query.product)
            .ok_or_else(|| internal("no such product"))?;
        let product = served.product();
        let name = TableReference::full(
            query.product.council.as_str(),
            query.product.department.as_str(),
            query.product.product.as_str(),
        );
        let relation = expand::relation(served, &name, tables)?;
        let (view, secret) = (served.view(), self.secret_for(served));
        let cells = cells::Cells {
            question: Question::new(query, product, view.schema())?,
            facts: facts::CellFacts::new(query, product, view, &name, &secret)?,
        };
        let lattice = Lattice::of(&cells, relation, &self.engine)?;
        let standing = Standing::of(served);
        let shelved = self.patterns.place(PatternKey::of(&lattice, &standing));
        let secret = cells.facts.secret().draws().to_bytes();
        let linked_secret = cells.facts.secret_for(LINKED);
        Ok(PlannedCells {
            asked: cells.question.asked(lattice.facts.clone(), cell_status)?,
            shelved,
            standing,
            terms: Terms {
                product: Some(product.to_wire()),
                totals: cells.facts.total_ids()?,
                draws: secret.to_vec(),
            },
            linked_secret,
            identity: product.linkable.as_ref().map(|l| l.identity.clone()),
            product: product.product_ref(),
            lattice: Arc::new(lattice),
        })
    }

    /// The plan of a free question, its noise and its cost.
    fn plan_ad_hoc(
        &self,
        query: &AdHocQuery,
        cell_status: bool,
        admitted: &AdmittedFragment,
        tables: &expand::Tables,
    ) -> Result<adhoc::PlannedAdHoc, RunError> {
        let of = &query.cells().product;
        let served = admitted.products().get(of);
        let served = served.ok_or_else(|| internal("no such product"))?;
        let product = served.product();
        let budget = product.terms(&admitted.grant().purpose);
        let name = TableReference::full(
            of.council.as_str(),
            of.department.as_str(),
            of.product.as_str(),
        );
        let asked = adhoc::AdHoc {
            query,
            facts: facts::CellFacts::new(
                query.cells(),
                product,
                served.view(),
                &name,
                &self.secret_for(served),
            )?,
            budget: budget.ok_or_else(|| internal("an admitted question has a budget"))?,
            cell_status,
        };
        let relation = expand::relation(served, &name, tables)?;
        asked.planned(relation, served.datasets(), &self.engine)
    }

    /// The secret that cells of a product are perturbed by. A twin's is none: the node's own draws are for data alone.
    pub(super) fn secret_for(&self, served: &Served) -> NoiseSecret {
        match served.rows() {
            Rows::Sealed(_) => self.secret.clone(),
            Rows::Made(..) => NoiseSecret::from_bytes(*served.product().definition.as_bytes()),
        }
    }
}
