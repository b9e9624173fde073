//! Asks, looks at what came back, and says whether a safe system would have said it.

use crate::net::Net;
use crate::table::{Line, Verdict, fill};
use crate::town::{COUNT_BOUND, Feature, MINIMUM, Town};
use crate::wire::{Attacker, Outcome, Reply};
use arrow::array::{Array as _, AsArray as _, RecordBatch};
use arrow::datatypes::{DataType, Int64Type};
use guildhall_model::{SharedClock, SystemClock};
use guildhall_testkit::TestCity;
use std::collections::BTreeMap;
use std::sync::Arc;
use tonic::Code;

/// The running town, the attacker in it, and the net.
pub(crate) struct Scene {
    pub(crate) truth: Town,
    pub(crate) city: TestCity,
    pub(crate) mallory: Attacker,
    pub(crate) net: Net,
}

/// What came of one attack.
#[derive(Debug, Clone)]
pub(crate) struct Finding {
    pub(crate) class: &'static str,
    pub(crate) name: String,
    pub(crate) verdict: &'static str,
    /// What went wrong, if anything did.
    pub(crate) failure: Option<String>,
    /// It rests on what the release does not do yet.
    pub(crate) awaited: bool,
}

impl Finding {
    /// What came of an attack; one that fails is told at once, for whoever stops at the first.
    pub(crate) fn of(
        class: &'static str,
        name: &str,
        verdict: &'static str,
        awaited: bool,
        result: Result<(), String>,
    ) -> Self {
        if let (Err(why), false) = (&result, awaited) {
            eprintln!("attack fails: {class} / {name}\n    {why}");
        }
        Self {
            class,
            name: name.to_owned(),
            verdict,
            failure: result.err(),
            awaited,
        }
    }
}

/// What each rule says to whoever asks, where it does not say its name.
const WORDS_OF_RULES: &[(&str, &str)] = &[
    ("cube.aggregate", "of private rows"),
    ("cube.dimension", "is neither grouped nor filtered by"),
    ("cube.distinct", "DISTINCT of anything but"),
    ("cube.expression", "expression over private columns"),
    ("cube.expression", "a key that is not a dimension"),
    ("cube.filter-clause", "FILTER in an aggregate"),
    ("cube.aggregate", "ORDER BY or IGNORE NULLS in an aggregate"),
    ("cube.group", "are not a registered group"),
    ("cube.grouping-sets", "GROUPING SETS"),
    ("cube.identifier", "names persons or things"),
    ("cube.limit", "before they are aggregated"),
    ("cube.measure", "is not a registered measure"),
    ("cube.nested", "an aggregation of an aggregation"),
    ("cube.one-filter", "is filtered twice"),
    ("cube.one-product", "joined with another table"),
    ("cube.one-product", "united with another table"),
    ("cube.predicate", "in a filter on private rows"),
    ("cube.roll-up", "is not registered for this unit"),
    ("cube.rows", "releases cells, not rows"),
    ("cube.rows", "gives released cells only"),
    ("cube.value", "compared with something that is not a value"),
    ("cube.window", "a window function over private rows"),
];

impl Scene {
    pub(crate) async fn start() -> Self {
        Self::at(Arc::new(SystemClock)).await
    }

    /// A scene whose roles go by `clock`.
    pub(crate) async fn at(clock: SharedClock) -> Self {
        let truth = Town::new();
        let city = truth.start(clock).await;
        let mallory = Attacker::signed_in(&city, "mallory", "care_planning").await;
        Self {
            truth,
            city,
            mallory,
            net: Net::new(),
        }
    }

    /// Asks the statement of `line` in every way there is, and judges.
    pub(crate) async fn statement(
        &self,
        class: &'static str,
        (name, sql, verdict): Line,
    ) -> Finding {
        let (verdict, awaited) = match verdict {
            Verdict::Awaits(feature, then) => (*then, !feature.is_present()),
            verdict => (verdict, false),
        };
        let result = self.judged(&fill(sql), verdict).await;
        Finding::of(class, name, verdict.word(), awaited, result)
    }

    async fn judged(&self, sql: &str, verdict: Verdict) -> Result<(), String> {
        let asked = self.mallory.ask(sql).await;
        self.clean(sql, &asked)?;
        if sql.starts_with("SELECT") || sql.starts_with("WITH") {
            self.clean(sql, &self.mallory.ask(&format!("EXPLAIN {sql}")).await)?;
        }
        let prepared = self.mallory.prepare(sql).await;
        self.clean(sql, &prepared)?;
        self.check(&asked, verdict).await?;
        if verdict.word() == "refused" {
            self.check(&prepared, verdict)
                .await
                .map_err(|e| format!("prepared: {e}"))?;
        }
        Ok(())
    }

    async fn check(&self, outcome: &Outcome, verdict: Verdict) -> Result<(), String> {
        match verdict {
            Verdict::Rule(rule) => {
                refused(outcome, &[Code::PermissionDenied]).and_then(|words| by_rule(rule, &words))
            }
            Verdict::Denied => refused(outcome, &[Code::PermissionDenied]).map(drop),
            Verdict::NotTaken => refused(
                outcome,
                &[
                    Code::InvalidArgument,
                    Code::Unimplemented,
                    Code::ResourceExhausted,
                ],
            )
            .map(drop),
            Verdict::Unknown => refused(outcome, &[Code::NotFound]).map(drop),
            Verdict::Withheld => withheld(answered(outcome)?),
            Verdict::Null(column) => null(answered(outcome)?, column),
            Verdict::Clean => Ok(()),
            Verdict::Released(truth) => {
                released(&outcome.rows().map_err(said)?, &truth(&self.truth))
            }
            Verdict::SameAs(other) => {
                let other = fill(other);
                let twin = self.mallory.ask(&other).await;
                self.clean(&other, &twin)?;
                same(outcome, &twin)
            }
            Verdict::SameRows(other) => {
                let twin = self.mallory.ask(&fill(other)).await;
                same_rows(outcome, &twin)
            }
            Verdict::Awaits(_, then) => Box::pin(self.check(outcome, *then)).await,
        }
    }

    /// Whether no canary is in what came back: none at all in the words of a refusal, and none elsewhere that the
    /// statement did not name itself (it comes back as the descriptor).
    pub(crate) fn clean(&self, asked: &str, outcome: &Outcome) -> Result<(), String> {
        for reply in &outcome.replies {
            if let Some((code, words)) = &reply.refused {
                let ours = matches!(code, Code::Internal | Code::Unknown);
                if ours && Feature::Faults.is_present() {
                    return Err(format!("it failed: {code:?} {words}"));
                }
                self.nothing("quarantine_register", words.as_bytes())?;
            }
            self.nothing(asked, &reply.bytes())?;
        }
        match &outcome.answer {
            Ok(batch) => {
                self.nothing(
                    asked,
                    format!("{:?}", guildhall_testkit::rows(batch)).as_bytes(),
                )?;
                no_small_count(batch)
            }
            Err(_) => Ok(()),
        }
    }

    /// Whether none of the canaries that `asked` does not name is in `bytes`.
    pub(crate) fn nothing(&self, asked: &str, bytes: &[u8]) -> Result<(), String> {
        let asked = asked.to_ascii_lowercase();
        let caught = self.net.catch(bytes).into_iter();
        let leaked: Vec<_> = caught
            .filter(|c| !asked.contains(&c.canary.to_ascii_lowercase()))
            .collect();
        if leaked.is_empty() {
            Ok(())
        } else {
            Err(format!("LEAKED {leaked:?}"))
        }
    }
}

/// No whole number that left as a cell's is below the minimum; none of the town's totals is.
fn no_small_count(batch: &RecordBatch) -> Result<(), String> {
    let schema = batch.schema();
    for (field, column) in schema.fields().iter().zip(batch.columns()) {
        // Of free questions every count is told, with noise that may take it below nothing.
        let of_cells = field
            .metadata()
            .get("guildhall.rule")
            .is_some_and(|r| r != "open-rows" && !r.contains("differential"));
        if !of_cells || *field.data_type() != DataType::Int64 {
            continue;
        }
        let least = column.as_primitive::<Int64Type>().iter().flatten().min();
        if least.is_some_and(|n| n < MINIMUM as i64) {
            return Err(format!("a cell of `{}` is {least:?}", field.name()));
        }
    }
    Ok(())
}

fn said((code, words): (Code, String)) -> String {
    format!("refused: {code:?} {words}")
}

fn answered(outcome: &Outcome) -> Result<&RecordBatch, String> {
    outcome.answer.as_ref().map_err(|e| said(e.clone()))
}

fn refused(outcome: &Outcome, codes: &[Code]) -> Result<String, String> {
    match &outcome.answer {
        Ok(batch) => Err(format!(
            "answered with {} rows: {:?}",
            batch.num_rows(),
            some(batch)
        )),
        Err((code, words)) if codes.contains(code) => Ok(words.clone()),
        Err(other) => Err(format!("refused in another way: {other:?}")),
    }
}

fn some(batch: &RecordBatch) -> Vec<String> {
    guildhall_testkit::rows(&batch.slice(0, batch.num_rows().min(4))).unwrap()
}

fn by_rule(rule: &str, words: &str) -> Result<(), String> {
    let of_rule = |(r, said): &(&str, &str)| *r == rule && words.contains(said);
    if words.contains(rule) || WORDS_OF_RULES.iter().any(of_rule) {
        Ok(())
    } else {
        Err(format!("refused, but not by `{rule}`: {words}"))
    }
}

fn withheld(batch: &RecordBatch) -> Result<(), String> {
    if batch.columns().iter().all(|c| c.null_count() == c.len()) {
        return Ok(());
    }
    Err(format!(
        "{} rows are there: {:?}",
        batch.num_rows(),
        some(batch)
    ))
}

fn null(batch: &RecordBatch, column: &str) -> Result<(), String> {
    let values = batch.column_by_name(column).ok_or("no such column")?;
    if values.null_count() == values.len() {
        return Ok(());
    }
    Err(format!("`{column}` is there: {:?}", some(batch)))
}

/// Each row is a key of `truth` and a count near enough; the largest are there.
pub(crate) fn released(rows: &[String], truth: &[(String, i64)]) -> Result<(), String> {
    let truth: BTreeMap<&str, i64> = truth.iter().map(|(k, n)| (k.as_str(), *n)).collect();
    let mut seen = Vec::new();
    for row in rows {
        let (key, n) = row.rsplit_once('|').ok_or("a row of one column")?;
        let Ok(n) = n.parse::<i64>() else { continue };
        let of = *truth
            .get(key)
            .ok_or_else(|| format!("`{row}` is released and should not be"))?;
        if of < MINIMUM as i64 || (n - of).abs() > COUNT_BOUND {
            return Err(format!("`{row}` is released; the truth is {of}"));
        }
        seen.push(key.to_owned());
    }
    let missing: Vec<_> = truth
        .iter()
        .filter(|(k, n)| **n >= 300 && !seen.contains(&(**k).to_owned()))
        .collect();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(format!("not released: {missing:?}"))
    }
}

/// Whether two answers are one in every byte but references and the words in which the questions differ.
pub(crate) fn same(one: &Outcome, other: &Outcome) -> Result<(), String> {
    same_rows(one, other)?;
    if same_shape(one, other) {
        return Ok(());
    }
    Err(format!(
        "another shape: {:?} and {:?}",
        one.replies, other.replies
    ))
}

fn same_rows(one: &Outcome, other: &Outcome) -> Result<(), String> {
    let rows = |o: &Outcome| o.rows().map_err(|(code, words)| (code, plain(&words)));
    let (a, b) = (rows(one), rows(other));
    if a == b {
        Ok(())
    } else {
        Err(format!("not the same: {a:?} and {b:?}"))
    }
}

/// The words of a refusal without its reference and without the names by which twins differ.
fn plain(words: &str) -> String {
    let lines = words.lines().filter(|l| !l.starts_with("query: "));
    let words = lines.collect::<Vec<_>>().join("\n");
    [
        "quarantine_registry",
        "quarantine_register",
        "residence",
        "residents",
    ]
    .iter()
    .fold(words, |words, name| words.replace(name, "…"))
}

/// Whether two answers have as many messages of the same lengths, the same headers, and the same schema.
///
/// Where there are rows, the first reply is their FlightInfo, whose times take a byte more or less.
fn same_shape(one: &Outcome, other: &Outcome) -> bool {
    let alike = |a: &Reply, b: &Reply, slack: usize| {
        let lengths = a.messages.iter().zip(&b.messages);
        a.messages.len() == b.messages.len()
            && names(&a.headers) == names(&b.headers)
            && lengths
                .into_iter()
                .all(|(x, y)| x.len().abs_diff(y.len()) <= slack)
    };
    let mut pairs = one.replies.iter().zip(&other.replies).rev();
    let schema = |o: &Outcome| o.answer.as_ref().ok().map(RecordBatch::schema);
    one.replies.len() == other.replies.len()
        && schema(one) == schema(other)
        && pairs.next().is_none_or(|(a, b)| alike(a, b, 0))
        && pairs.all(|(a, b)| alike(a, b, 8))
}

fn names(headers: &[Vec<u8>]) -> Vec<&[u8]> {
    headers
        .iter()
        .filter_map(|h| h.split(|b| *b == b':').next())
        .collect()
}
