//! What a check found, in words and in one table.

use super::Checked;
use super::lint::{by, percent};
use super::survey::{PartSurvey, StatisticSurvey, Survey, TableSurvey, share};
use guildhall_disclosure::Fate;
use guildhall_model::ReleaseClass;
use std::fmt;

/// The causes for which something is withheld, and their words.
const CAUSES: [(Fate, &str); 6] = [
    (Fate::FewUnits, "too few units"),
    (Fate::Noise, "too few after noise"),
    (Fate::Cell, "its cell withheld"),
    (Fate::FewContributors, "too few contributors"),
    (Fate::Dominated, "dominance"),
    (Fate::Margins, "margins"),
];

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let product = &self.product;
        let class = product.class;
        write!(
            f,
            "{}: version {}, {class}",
            product.product_ref(),
            product.version
        )?;
        match class {
            ReleaseClass::Aggregate => writeln!(
                f,
                "; cells of at least {} distinct `{}`, of each at most {} rows",
                product.minimum_group,
                product.unit.as_ref().map_or("?", |u| u.as_str()),
                product.max_rows_per_unit
            )?,
            _ => writeln!(f, "; rows leave, no cell is weighed")?,
        }
        if let Some(survey) = &self.survey {
            write!(f, "{survey}")?;
        } else if class == ReleaseClass::Aggregate {
            writeln!(f, "  its data was not read: no account was given")?;
        }
        for finding in &self.findings {
            writeln!(f, "{finding}")?;
        }
        if self.findings.is_empty() {
            writeln!(f, "nothing to mend")?;
        }
        Ok(())
    }
}

impl fmt::Display for Survey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "  {} rows, {} of them of nobody; {} units",
            self.rows,
            percent(share(self.rows_of_nobody, self.rows)),
            self.units
        )?;
        self.parts.iter().try_for_each(|p| write!(f, "{p}"))?;
        self.tables.iter().try_for_each(|t| write!(f, "{t}"))?;
        for left_out in &self.left_out {
            writeln!(f, "  not weighed: {left_out}")?;
        }
        Ok(())
    }
}

impl fmt::Display for PartSurvey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "  in cells {}: {} of units over `max_rows_per_unit`",
            by(&self.keys),
            percent(share(self.over_rows, self.units))
        )?;
        for bound in &self.measures {
            writeln!(
                f,
                "    {}: {} of units' totals below its bounds, {} above",
                bound.column,
                percent(share(bound.below, bound.totals)),
                percent(share(bound.above, bound.totals))
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for TableSurvey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "  {}: {} cells with units of {} possible; lost are {} of units, {} of rows",
            match &self.roll_up {
                None => by(&self.keys),
                Some(roll_up) => format!("{}, {roll_up}", by(&self.keys)),
            },
            self.cells,
            self.possible,
            percent(1.0 - kept(self.units_told, self.units)),
            percent(1.0 - kept(self.rows_told, self.rows))
        )?;
        for statistic in &self.statistics {
            writeln!(f, "    {}", line(statistic, self.cells))?;
        }
        Ok(())
    }
}

/// A share of which all is kept if there is nothing to lose.
fn kept(told: u64, all: u64) -> f64 {
    if all == 0 { 1.0 } else { share(told, all) }
}

fn line(statistic: &StatisticSurvey, cells: u64) -> String {
    let of = |fate| share(statistic.of(fate), cells);
    let causes = CAUSES.iter().filter(|(fate, _)| statistic.of(*fate) > 0);
    let causes: Vec<String> = causes
        .map(|(fate, words)| format!("{words} {}", percent(of(*fate))))
        .collect();
    let published = percent(of(Fate::Published));
    let name = &statistic.name;
    match causes.is_empty() {
        true => format!("{name}: published {published}"),
        false => format!(
            "{name}: published {published}; withheld: {}",
            causes.join(", ")
        ),
    }
}
