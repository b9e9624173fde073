//! SELECTs within SELECTs that give their columns old names anew answer as those do whose names
//! are all different.

use super::*;
use datafusion::arrow::array::{ArrayRef, Int64Array, StringArray};
use datafusion::prelude::SessionContext;

/// Texts `a`, `b` and a number `c`, with gaps.
fn books(seed: i64) -> RecordBatch {
    let text = |i: i64| (i % 7 != 0).then(|| format!("{}{}", char::from(b'a' + (i % 5) as u8), i));
    let a: ArrayRef = Arc::new((0..20).map(|i| text(i * seed)).collect::<StringArray>());
    let b: ArrayRef = Arc::new((0..20).map(|i| text(i + seed)).collect::<StringArray>());
    let c = (0..20).map(|i| (i % 6 != 0).then_some((i * seed) % 9));
    let c: ArrayRef = Arc::new(c.collect::<Int64Array>());
    RecordBatch::try_from_iter_with_nullable([("a", a, true), ("b", b, true), ("c", c, true)])
        .unwrap()
}

fn city() -> City {
    City::of(vec![
        Given::open("northmoor.library.books", vec![books(3)]).conforming("books"),
        Given::open("southmere.library.books", vec![books(5)]).conforming("books"),
    ])
}

/// The same rows at one engine, which is DataFusion as it comes.
fn one_engine() -> SessionContext {
    let plain = SessionContext::new();
    for (name, batches) in [
        ("north", vec![books(3)]),
        ("south", vec![books(5)]),
        ("both", vec![books(3), books(5)]),
    ] {
        let table = MemTable::try_new(batches[0].schema(), vec![batches]).unwrap();
        plain.register_table(name, Arc::new(table)).unwrap();
    }
    plain
}

/// The sources, here and there.
const SOURCES: [(&str, &str); 3] = [
    ("northmoor.library.books", "north"),
    ("southmere.library.books", "south"),
    ("city.library.books", "both"),
];

/// Questions that are drawn.
const SEEDS: u64 = 120;

/// Draws lots; the same ones for the same seed (SplitMix64).
struct Lots(u64);

impl Lots {
    fn draw(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % below as u64).unwrap()
    }

    fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.draw(all.len())]
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Text,
    Number,
}

/// A column by the name it shares with others, and by one of its own.
#[derive(Debug, Clone)]
struct Named {
    shared: String,
    own: String,
    kind: Kind,
}

/// The same text twice: with shared names for the city, with own names for one engine.
#[derive(Debug, Clone)]
struct Twice {
    shared: String,
    own: String,
}

/// What a column of a SELECT is: an expression in which texts stand as `<name>` and numbers as
/// `[name]`, and its name.
#[derive(Debug, Clone)]
struct Item {
    form: String,
    kind: Kind,
    name: &'static str,
}

fn named(shared: &str, own: String, kind: Kind) -> Named {
    Named {
        shared: shared.into(),
        own,
        kind,
    }
}

fn place(c: &Named) -> String {
    match c.kind {
        Kind::Text => format!("<{}>", c.shared),
        Kind::Number => format!("[{}]", c.shared),
    }
}

/// A nest of SELECTs as it grows.
struct Nest {
    lots: Lots,
    from: Twice,
    columns: Vec<Named>,
    last: Vec<Item>,
    names: usize,
}

impl Nest {
    fn new(seed: u64) -> Self {
        let mut lots = Lots(seed);
        let (shared, own) = *lots.of(&SOURCES);
        Self {
            lots,
            from: Twice {
                shared: shared.into(),
                own: own.into(),
            },
            columns: vec![
                named("a", "a".into(), Kind::Text),
                named("b", "b".into(), Kind::Text),
                named("c", "c".into(), Kind::Number),
            ],
            last: vec![],
            names: 0,
        }
    }

    fn fresh(&mut self) -> String {
        self.names += 1;
        format!("u{}", self.names)
    }

    /// `form` with the columns that are there now.
    fn filled(&self, form: &str) -> Twice {
        let (mut shared, mut own) = (form.to_owned(), form.to_owned());
        for c in &self.columns {
            let place = place(c);
            shared = shared.replace(&place, &c.shared);
            own = own.replace(&place, &c.own);
        }
        Twice { shared, own }
    }

    /// A column of this kind as it stands in a form, or a literal if there is none.
    fn column(&mut self, kind: Kind) -> String {
        let all: Vec<&Named> = self.columns.iter().filter(|c| c.kind == kind).collect();
        match (all.is_empty(), kind) {
            (false, _) => place(self.lots.of::<&Named>(&all)),
            (true, Kind::Text) => "'q'".into(),
            (true, Kind::Number) => "3".into(),
        }
    }

    fn form(&mut self, kind: Kind) -> String {
        let (x, y) = (self.column(kind), self.column(kind));
        match (kind, self.lots.draw(9)) {
            (Kind::Text, 0) => format!("concat({x}, {x})"),
            (Kind::Text, 1) => format!("{x} || {y}"),
            (Kind::Text, 2) => format!("concat({x}, {y})"),
            (Kind::Text, 3) => format!("upper({x})"),
            (Kind::Text, 4) => format!("reverse({x})"),
            (Kind::Text, 5) => format!("replace({x}, 'a', 'ba')"),
            (Kind::Text, 6) => format!("concat_ws('-', {y}, {x})"),
            (Kind::Number, 0) => format!("{x} + {x}"),
            (Kind::Number, 1) => format!("{x} - {y}"),
            (Kind::Number, 2) => format!("{x} * 2 + 1"),
            (Kind::Number, 3) => format!("-{x}"),
            (Kind::Number, 4) => format!("coalesce({x}, {y}, 1)"),
            (Kind::Number, 5) => format!("case when {x} > 3 then {y} else {x} + 1 end"),
            (Kind::Number, 6) => format!("abs({x} - 7)"),
            _ => x,
        }
    }

    /// The list from below once more if its columns are there; else one to three columns.
    fn items(&mut self) -> Vec<Item> {
        let again = |i: &Item| !self.filled(&i.form).shared.contains(['<', '[']);
        if !self.last.is_empty() && self.last.iter().all(again) && self.lots.draw(3) > 0 {
            return self.last.clone();
        }
        let mut free = vec!["a", "b", "c"];
        let kinds = [Kind::Text, Kind::Number];
        (0..=self.lots.draw(3))
            .map(|_| {
                let name = free.remove(self.lots.draw(free.len()));
                // A name mostly stays with its kind, so that a list can stand on itself.
                let own = if name == "c" {
                    Kind::Number
                } else {
                    Kind::Text
                };
                let kind = if self.lots.draw(6) == 0 {
                    *self.lots.of(&kinds)
                } else {
                    own
                };
                let form = self.form(kind);
                Item { form, kind, name }
            })
            .collect()
    }

    fn level(&mut self) {
        let items = self.items();
        self.last.clone_from(&items);
        let filter = match self.lots.draw(6) {
            0 => format!(" where {} % 2 = 1", self.column(Kind::Number)),
            _ => String::new(),
        };
        let (filter, what) = (self.filled(&filter), self.select());
        let (mut shared, mut own) = (vec![], vec![]);
        let mut made = vec![];
        for Item { form, kind, name } in items {
            let (e, fresh) = (self.filled(&form), self.fresh());
            shared.push(format!("{} as {name}", e.shared));
            own.push(format!("{} as {fresh}", e.own));
            made.push(named(name, fresh, kind));
        }
        let (from, list) = (&self.from, [shared.join(", "), own.join(", ")]);
        let select = Twice {
            shared: format!("{what} {} from {}{}", list[0], from.shared, filter.shared),
            own: format!("{what} {} from {}{}", list[1], from.own, filter.own),
        };
        self.columns = made;
        self.wrap(&select);
    }

    fn select(&mut self) -> &'static str {
        if self.lots.draw(10) == 0 {
            "select distinct"
        } else {
            "select"
        }
    }

    fn grouped(&mut self) {
        let (key, n) = (self.form(Kind::Text), self.form(Kind::Number));
        let (key, n) = (self.filled(&key), self.filled(&n));
        let (k, s) = (self.fresh(), self.fresh());
        let ask = |key: &str, n: &str, from: &str, k: &str, s: &str| {
            format!("select {key} as {k}, sum({n}) as {s} from {from} group by 1")
        };
        let select = Twice {
            shared: ask(&key.shared, &n.shared, &self.from.shared, "b", "c"),
            own: ask(&key.own, &n.own, &self.from.own, &k, &s),
        };
        self.columns = vec![named("b", k, Kind::Text), named("c", s, Kind::Number)];
        self.last.clear();
        self.wrap(&select);
    }

    /// What is there by a number of its own with a source again, of which names are the same.
    fn joined(&mut self) {
        let Some(on) = self
            .columns
            .iter()
            .find(|c| c.kind == Kind::Number)
            .cloned()
        else {
            return;
        };
        let (shared, own) = *self.lots.of(&SOURCES);
        let ask = |from: &str, on: &str, source: &str| {
            format!("(select * from {from}) as l join {source} as r on l.{on} = r.c")
        };
        self.from = Twice {
            shared: ask(&self.from.shared, &on.shared, shared),
            own: ask(&self.from.own, &on.own, own),
        };
        for c in &mut self.columns {
            (c.shared, c.own) = (format!("l.{}", c.shared), format!("l.{}", c.own));
        }
        for (name, kind) in [("r.a", Kind::Text), ("r.c", Kind::Number)] {
            self.columns.push(named(name, name.into(), kind));
        }
        self.level();
    }

    /// As a sub-query without a name, with one, with that of a column, or as a `WITH`.
    fn wrap(&mut self, select: &Twice) {
        let (own, Twice { shared: s, own: o }) = (self.fresh(), select);
        self.from = match self.lots.draw(8) {
            0..=4 => Twice {
                shared: format!("({s})"),
                own: format!("({o})"),
            },
            5..=6 => Twice {
                shared: format!("({s}) as {}", self.lots.of(&["t", "a"])),
                own: format!("({o}) as {own}"),
            },
            _ => Twice {
                shared: format!("(with w as ({s}) select * from w)"),
                own: format!("(with {own} as ({o}) select * from {own})"),
            },
        };
    }

    fn question(mut self) -> Twice {
        // One at most: each makes several rows of one.
        let joined = self.lots.draw(12);
        for level in 0..2 + self.lots.draw(5) {
            match self.lots.draw(10) {
                _ if level == joined => self.joined(),
                0 => self.grouped(),
                _ => self.level(),
            }
        }
        Twice {
            shared: format!("select * from {}", self.from.shared),
            own: format!("select * from {}", self.from.own),
        }
    }
}

async fn there(city: &City, sql: &str) -> Vec<String> {
    let mut rows = city.ask(sql).await;
    rows.sort();
    rows
}

async fn here(plain: &SessionContext, sql: &str) -> Vec<String> {
    let rows = plain.sql(sql).await.expect(sql).collect().await;
    let mut rows = rows_of(&rows.expect(sql));
    rows.sort();
    rows
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shared_names_answer_as_own_names_do() {
    let (city, plain) = (city(), one_engine());
    for seed in 0..SEEDS {
        let question = Nest::new(seed).question();
        let expected = here(&plain, &question.own).await;
        let answer = there(&city, &question.shared).await;
        assert_eq!(
            answer, expected,
            "{seed}: {} AS {}",
            question.shared, question.own
        );
    }
}

/// `of` over itself, `depth` times, over `source`.
fn stack(of: &str, depth: usize, source: &str) -> String {
    let from = (0..depth).fold(source.to_owned(), |from, _| {
        format!("(select {of} from {from})")
    });
    format!("select * from {from}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_level_of_a_stack_is_lost() {
    let city = city();
    for (source, _) in SOURCES {
        for depth in 1..=8 {
            let texts = stack("concat(a, a) as a", depth, source);
            let all = vec!["a"; 1 << depth].join(", ");
            let at_once = format!("select concat({all}) as a from {source}");
            assert_eq!(there(&city, &texts).await, there(&city, &at_once).await);
            let numbers = stack("c + c as c", depth, source);
            let at_once = format!("select c * {} as c from {source}", 1 << depth);
            assert_eq!(there(&city, &numbers).await, there(&city, &at_once).await);
            let swapped = stack("b as a, a as b", depth, source);
            let pair = if depth % 2 == 0 { "a, b" } else { "b, a" };
            let at_once = format!("select {pair} from {source}");
            assert_eq!(there(&city, &swapped).await, there(&city, &at_once).await);
        }
    }
}

/// Loans by reader, with two dimensions that can be taken for one another.
fn loans() -> Given {
    let text = |part: fn(i64) -> String| -> ArrayRef {
        Arc::new((0..400).map(|i| Some(part(i))).collect::<StringArray>())
    };
    let fee: ArrayRef = Arc::new((0..400).map(|i| Some(i % 7)).collect::<Int64Array>());
    let columns = [
        ("reader", text(|i| format!("R{}", i % 90)), true),
        ("ward", text(|i| format!("V{}", i % 2)), true),
        ("band", text(|i| format!("V{}", i % 3)), true),
        ("fee", fee, true),
    ];
    let rows = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
    Given::open("northmoor.library.loans", vec![rows]).private(
        "reader",
        &["ward", "band"],
        &["fee"],
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dimensions_that_change_names_are_not_mixed_up() {
    let city = City::of(vec![loans()]);
    let swap = "(select band as ward, ward as band, fee from";
    let loans = "northmoor.library.loans";
    for (renamed, plain) in [
        (
            format!("select ward, count(*) as n from {swap} {loans}) group by ward"),
            format!("select band as ward, count(*) as n from {loans} group by band"),
        ),
        (
            format!("select ward, count(*) as n from {swap} {swap} {loans})) group by ward"),
            format!("select ward, count(*) as n from {loans} group by ward"),
        ),
        (
            format!(
                "select ward, sum(fee) as n from {swap} {swap} {swap} {loans}))) group by ward"
            ),
            format!("select band as ward, sum(fee) as n from {loans} group by band"),
        ),
        (
            format!(
                "select band, count(*) as n from {swap} {swap} {loans})) where ward = 'V1' group by band"
            ),
            format!("select band, count(*) as n from {loans} where ward = 'V1' group by band"),
        ),
        (
            format!(
                "select ward as band, band as ward, n from (select ward as band, band as ward, count(*) as n from {loans} group by 1, 2)"
            ),
            format!("select band, ward, count(*) as n from {loans} group by band, ward"),
        ),
        (
            format!(
                "select n + n as n from (select n + n as n from (select count(*) as n from {loans} group by ward))"
            ),
            format!("select 4 * count(*) as n from {loans} group by ward"),
        ),
        (
            format!(
                "select n + n as n from (select n + n as n from (select n + n as n from (select count(*) as n from {loans} group by ward)))"
            ),
            format!("select 8 * count(*) as n from {loans} group by ward"),
        ),
    ] {
        assert_eq!(
            there(&city, &renamed).await,
            there(&city, &plain).await,
            "{renamed}"
        );
    }
}

/// When this fails, the engine has mended its rule and `projections.rs` can go. Until then it
/// shows that the questions above are of the kind that matters.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_engine_alone_loses_levels() {
    let plain = one_engine();
    let lost = here(&plain, &stack("c + c as c", 3, "north")).await;
    assert_eq!(lost, here(&plain, "select c * 4 from north").await);
    for seed in 0..SEEDS {
        let question = Nest::new(seed).question();
        let shared = SOURCES.iter().fold(question.shared, |text, (there, here)| {
            text.replace(there, here)
        });
        if here(&plain, &shared).await != here(&plain, &question.own).await {
            return;
        }
    }
    panic!("none of the questions drawn is answered wrongly");
}
