//! From rows that meet to what leaves: the tables of the cells' lattice, the lattices beside it, the gate.
//!
//! # What owners publish by themselves
//!
//! A cell of the answer is of units that are somewhere and meet what the question takes of them elsewhere; the same units, and
//! others, are in cells that an owner publishes by itself, or that another question links. The one taken from the other tells
//! of those that are left: of the people of a ward whom an owner knows, how many are *not* in the answer. So for each set of
//! members but all there is a lattice [beside](Beside) the answer's: all units that are at those members, told apart
//! by their dimensions and by whether they are in the answer, with *in* and *out* as declared values of one more axis. What
//! is withheld there of the units that are in, for the margins with those that are out, the answer withholds.
//!
//! # Noise
//!
//! As everywhere it is a function of the members. The record keys are the 8 bits of a unit's that the first member by name
//! tells (see the node's text on tokens); the secret is of all owners together, so that no owner alone can draw it. The same
//! units linked with another set of products have other noise: with `n` products that may meet there are fewer than `2^n`
//! draws of one count. An owner that lies about its secret or its bits has its questions drawn anew.

use super::Meeting;
use super::meet::{Unit, units};
use super::rows::Rows;
use crate::error::Error;
use arrow::array::{ArrayRef, RecordBatch, StringArray, UInt32Array, UInt64Array, new_null_array};
use arrow::compute::take;
use guildhall_cube::{Asked, Known, Question, TotalOf, is_finest, levels};
use guildhall_disclosure::joint::Tables;
use guildhall_disclosure::{
    Adds, Axis, Beside, CellDraws, Cuboid, DrawSecret, Facts, Gate, Gathered, Gathering, Noise,
    NoiseSecret, PTable, ReleaseError, Released, Rule, Takes,
};
use guildhall_model::ColumnName;
use guildhall_plan::cube::CubeLevel;
use guildhall_plan::linked::own_name;
use std::sync::Arc;

/// Rows that are handed on at a time.
const STEP: usize = 8_192;
/// The most ways in which the rows of one question meet.
const MOST_ROWS: u64 = 1 << 28;
/// The most cells of one table: beyond it hardly any stands on more than one unit.
const MOST_CELLS: usize = 2_000_000;
/// What the axis of a lattice beside the answer's says of units that are not in it.
const OUTSIDE: &str = "out";

/// A column of some member's rows.
#[derive(Debug, Clone, Copy)]
struct Place {
    member: usize,
    column: usize,
}

/// Units at some members, as a gathering takes them.
struct Met<'a> {
    rows: &'a [Rows],
    /// At which a unit is.
    at: Vec<usize>,
    /// Those of them whose rows are taken, each with each.
    members: Vec<usize>,
    /// How many members there are.
    all: usize,
    keys: Vec<Place>,
    values: Vec<Place>,
    /// Units that are in the answer alone, or all with a word on whether they are.
    inside: bool,
}

impl Meeting {
    /// Has the rows meet, and takes from the cells of them what was asked for and passes.
    ///
    /// Ends early when nobody waits any more: `going` says whether somebody does.
    pub(super) fn weigh(&self, rows: &[Rows], going: &dyn Fn() -> bool) -> Result<Released, Error> {
        let question = self.question()?;
        let axes = question.axes().map_err(Error::internal)?;
        let facts = self.facts(&question, |_| true)?;
        let all: Vec<usize> = (0..self.members.len()).collect();
        let met = self.met(rows, &question, &all, true)?;
        let gathered = met.gathered(self.adds(&question, |_| true)?, going)?;
        let (places, more) = question.places();
        let tables = tables(&gathered, &axes, &more)?;
        let beside = self.beside(rows, &question, &axes, going)?;
        let asked = question.asked(facts.clone(), self.cell_status);
        let asked: Asked = asked.map_err(Error::internal)?;
        let first_fact = places.saturating_add(more.len());
        let known = Known::beside(&facts, &axes, tables, (places, first_fact), &beside);
        let (cells, rule) = asked
            .of(&known.map_err(Error::internal)?)
            .map_err(Error::internal)?;
        let mut gate = Gate::new(Rule::Cells(rule), cells.schema())?;
        Ok(gate.release(&cells)?)
    }

    /// The facts of cells, with those totals that `has`.
    fn facts(
        &self,
        question: &Question<'_>,
        has: impl Fn(TotalOf<'_>) -> bool,
    ) -> Result<Facts, Error> {
        let terms = question.totals.terms(question.product, question.schema);
        let terms = terms.map_err(Error::internal)?;
        let all = question.totals.iter().zip(terms);
        let totals = all.filter(|(total, _)| has(*total)).map(|(total, terms)| {
            let id = match total {
                TotalOf::Rows => "rows".to_owned(),
                TotalOf::Sum(m) => format!("sum:{}", m.column),
                TotalOf::Values(m) => format!("values:{}", m.column),
            };
            (id, terms.ones)
        });
        let secrets: Vec<&DrawSecret> = self.offers.iter().map(|o| &o.draws.secret).collect();
        let noise = Noise {
            draws: CellDraws::Own(DrawSecret::together(&secrets)),
            table: PTable::standard(),
        };
        Ok(Facts::gathered(
            question.product.minimum_group,
            totals,
            noise,
        ))
    }

    /// How those totals that `has` are added up from the values of [`Self::met`].
    fn adds(
        &self,
        question: &Question<'_>,
        has: impl Fn(TotalOf<'_>) -> bool,
    ) -> Result<Vec<Adds>, Error> {
        let terms = question.totals.terms(question.product, question.schema);
        let terms = terms.map_err(Error::internal)?;
        let measures = measures(question);
        let value = |column: &ColumnName| {
            let at = measures.iter().position(|m| *m == column);
            at.ok_or_else(|| Error::internal("a measure that was not asked for"))
        };
        let all = question.totals.iter().zip(terms);
        let adds = all.filter(|(total, _)| has(*total)).map(|(total, terms)| {
            Ok(Adds {
                takes: match total {
                    TotalOf::Rows => Takes::Rows,
                    TotalOf::Values(m) => Takes::Values(value(&m.column)?),
                    TotalOf::Sum(m) => Takes::Sum(value(&m.column)?),
                },
                lower: terms.lower,
                upper: terms.upper,
                scale: terms.scale,
            })
        });
        adds.collect()
    }

    /// Where the rows of `members` have what the question tells cells apart by and adds up.
    fn met<'a>(
        &self,
        rows: &'a [Rows],
        question: &Question<'_>,
        members: &[usize],
        inside: bool,
    ) -> Result<Met<'a>, Error> {
        let of = |name: &ColumnName| self.owner(name).filter(|(at, _)| members.contains(at));
        let axes = question.axes.iter();
        let axes = axes.filter(|a| a.levels.first().is_some_and(|l| of(&l.column).is_some()));
        let keys = axes.flat_map(|a| &a.levels).map(|level| {
            let place = of(&level.column).and_then(|(member, column)| {
                let by = level.by.clone();
                let level = CubeLevel { column, by };
                let column = self.members.get(member)?.layout.level(&level)?;
                Some(Place { member, column })
            });
            place.ok_or_else(|| Error::internal("a level that no member has sent"))
        });
        let keys = keys.collect::<Result<Vec<_>, _>>()?;
        let values = measures(question).into_iter().map(|measure| {
            let place = self.owner(measure).and_then(|(member, column)| {
                let column = self.members.get(member)?.layout.value(&column)?;
                Some(Place { member, column })
            });
            place.ok_or_else(|| Error::internal("a measure that no member has sent"))
        });
        let shows = |at: &usize| self.members.get(*at).is_some_and(|m| m.of.presence.shows());
        Ok(Met {
            rows,
            at: members.to_vec(),
            members: members.iter().copied().filter(shows).collect(),
            all: self.members.len(),
            keys,
            values: values.collect::<Result<Vec<_>, _>>()?,
            inside,
        })
    }

    /// The member that a column of the united product is of, and what it is called there.
    fn owner(&self, united: &ColumnName) -> Option<(usize, ColumnName)> {
        let mut all = self.members.iter().enumerate();
        all.find_map(|(at, m)| Some((at, own_name(&m.of.product, united)?)))
    }

    /// The lattices that the answer's cells lie in, too: of every set of members but all of them, whether they show or not.
    fn beside(
        &self,
        rows: &[Rows],
        question: &Question<'_>,
        axes: &[Axis],
        going: &dyn Fn() -> bool,
    ) -> Result<Vec<Beside>, Error> {
        let all = self.members.len();
        let sets = 1..(1_usize << all).saturating_sub(1);
        let beside = sets.map(|set| {
            let members = (0..all).filter(|at| set >> at & 1 == 1);
            let members: Vec<usize> = members.collect();
            self.beside_at(rows, question, axes, (&members, going))
        });
        beside.collect()
    }

    fn beside_at(
        &self,
        rows: &[Rows],
        question: &Question<'_>,
        axes: &[Axis],
        (members, going): (&[usize], &dyn Fn() -> bool),
    ) -> Result<Beside, Error> {
        let of = |name: &ColumnName| {
            self.owner(name)
                .is_some_and(|(at, _)| members.contains(&at))
        };
        let own = question.axes.iter().enumerate();
        let own = own.filter(|(_, a)| a.levels.first().is_some_and(|l| of(&l.column)));
        let numbers: Vec<usize> = own.map(|(at, _)| at).collect();
        let mut beside_axes: Vec<Axis> = numbers
            .iter()
            .filter_map(|at| axes.get(*at).cloned())
            .collect();
        beside_axes.push(inside_or_not()?);
        let has = |total: TotalOf<'_>| match total {
            TotalOf::Rows => true,
            TotalOf::Sum(m) | TotalOf::Values(m) => of(&m.column),
        };
        let totals = question.totals.iter().enumerate().filter(|(_, t)| has(*t));
        let met = self.met(rows, question, members, false)?;
        let gathered = met.gathered(self.adds(question, has)?, going)?;
        let cuboids = tables(&gathered, &beside_axes, &[])?;
        let cuboid = |(levels, cells)| Cuboid { levels, cells };
        Ok(Beside {
            facts: self.facts(question, has)?,
            axes: beside_axes,
            of: numbers,
            totals: totals.map(|(at, _)| at).collect(),
            cuboids: cuboids.into_iter().map(cuboid).collect(),
        })
    }
}

/// The axis that tells units in the answer from others.
fn inside_or_not() -> Result<Axis, Error> {
    let values: ArrayRef = Arc::new(StringArray::from(vec![Beside::INSIDE, OUTSIDE]));
    let declared = RecordBatch::try_from_iter([("met", values)]).map_err(Error::internal)?;
    Ok(Axis {
        coarser: vec![vec![]],
        declared: vec![declared],
    })
}

/// The measures of the question's totals, each once.
fn measures<'q>(question: &'q Question<'_>) -> Vec<&'q ColumnName> {
    let mut measures: Vec<&ColumnName> = Vec::new();
    for total in question.totals.iter() {
        if let TotalOf::Sum(measure) | TotalOf::Values(measure) = total
            && !measures.contains(&&measure.column)
        {
            measures.push(&measure.column);
        }
    }
    measures
}

/// Every table over `axes`; the finest one with the keys at `more`, too.
fn tables(gathered: &Gathered, axes: &[Axis], more: &[(usize, usize)]) -> Result<Tables, Error> {
    if gathered.cells() > MOST_CELLS {
        return Err(Error::TooManyCells { most: MOST_CELLS });
    }
    let table = |levels: Vec<usize>| {
        let more = if is_finest(&levels) { more } else { &[] };
        let table = gathered.table(axes, &levels, more)?;
        Ok((levels, table))
    };
    let tables = levels(axes).into_iter().map(table);
    tables
        .collect::<Result<_, ReleaseError>>()
        .map_err(Error::from)
}

impl Met<'_> {
    /// Takes all rows that meet, if they are not too many: that is counted before any is taken.
    fn gathered(&self, adds: Vec<Adds>, going: &dyn Fn() -> bool) -> Result<Gathered, Error> {
        let mut ways = 0_u64;
        units(self.rows, |unit| {
            if unit.is_at_all(&self.at) {
                ways = ways.saturating_add(unit.count(&self.members));
            }
            match ways > MOST_ROWS {
                true => Err(Error::TooManyRows { most: MOST_ROWS }),
                false => Ok(()),
            }
        })?;
        // Record keys come with the rows.
        let mut gathering = Gathering::new(NoiseSecret::from_bytes([0; 32]), adds);
        let mut step = Step::of(self.members.len());
        self.flush(&mut step, &mut gathering)?;
        units(self.rows, |unit| {
            if !unit.is_at_all(&self.at) {
                return Ok(());
            }
            let (record, is_in) = (self.record(unit), (0..self.all).all(|at| unit.is_at(at)));
            let mut failed = None;
            unit.ways(&self.members, &mut Vec::new(), &mut |taken| {
                step.push(taken, unit.number, record, is_in);
                if step.units.len() >= STEP {
                    failed = match going() {
                        true => self.flush(&mut step, &mut gathering).err(),
                        false => Some(Error::internal("nobody waits any more")),
                    };
                }
                failed.is_none()
            });
            failed.map_or(Ok(()), Err)
        })?;
        self.flush(&mut step, &mut gathering)?;
        Ok(gathering.finish()?)
    }

    /// What is told of a unit's record key: by the first member, where it is at that one.
    fn record(&self, unit: &Unit<'_>) -> u64 {
        let first = unit.spans.first().filter(|span| !span.is_empty());
        let told = first.and_then(|span| {
            let records = &self.rows.first()?.records;
            records.values().get(span.start).copied()
        });
        told.map_or(0, u64::from)
    }

    /// Hands on what `step` holds; no rows have columns, too.
    fn flush(&self, step: &mut Step, gathering: &mut Gathering) -> Result<(), Error> {
        let taken = std::mem::replace(step, Step::of(self.members.len()));
        let rows = taken.units.len();
        let indices: Vec<UInt32Array> = taken.rows.into_iter().map(UInt32Array::from).collect();
        let column = |place: &Place| {
            let of = self
                .rows
                .get(place.member)
                .and_then(|r| r.columns.get(place.column));
            let of = of.ok_or_else(|| Error::internal("a column that was not sent"))?;
            match self.members.iter().position(|m| *m == place.member) {
                Some(at) => match indices.get(at) {
                    Some(rows) => take(of, rows, None).map_err(Error::internal),
                    None => Err(Error::internal("a member without rows")),
                },
                // A measure of a member whose rows are not taken: it adds nothing up.
                None => Ok(new_null_array(of.data_type(), rows)),
            }
        };
        let keys = self.keys.iter().map(column);
        let mut keys = keys.collect::<Result<Vec<ArrayRef>, Error>>()?;
        if !self.inside {
            let word = |is_in: bool| if is_in { Beside::INSIDE } else { OUTSIDE };
            let words = taken.is_in.into_iter().map(word).map(Some);
            keys.push(Arc::new(words.collect::<StringArray>()));
        }
        let values = self.values.iter().map(column);
        let values = values.collect::<Result<Vec<ArrayRef>, Error>>()?;
        let units: ArrayRef = Arc::new(UInt32Array::from(taken.units));
        let records = UInt64Array::from(taken.records);
        gathering.push_keyed(&keys, &units, &values, &records)?;
        match gathering.cells() > MOST_CELLS {
            true => Err(Error::TooManyCells { most: MOST_CELLS }),
            false => Ok(()),
        }
    }
}

/// Rows that meet, until there are enough to hand on.
struct Step {
    /// Of each member whose rows are taken, which.
    rows: Vec<Vec<u32>>,
    units: Vec<u32>,
    records: Vec<u64>,
    is_in: Vec<bool>,
}

impl Step {
    fn of(members: usize) -> Self {
        Self {
            rows: vec![vec![]; members],
            units: vec![],
            records: vec![],
            is_in: vec![],
        }
    }

    fn push(&mut self, taken: &[u32], unit: u32, record: u64, is_in: bool) {
        for (rows, row) in self.rows.iter_mut().zip(taken) {
            rows.push(*row);
        }
        self.units.push(unit);
        self.records.push(record);
        self.is_in.push(is_in);
    }
}
