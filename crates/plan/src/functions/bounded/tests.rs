use super::*;
use crate::session::{bare_builder, base_config};
use arrow::array::{AsArray, RecordBatch, StringArray};
use arrow::util::display::array_value_to_string;
use datafusion::catalog::{CatalogProvider, SchemaProvider};
use datafusion::catalog::{MemTable, MemoryCatalogProvider, MemorySchemaProvider};
use datafusion::execution::SessionStateDefaults;
use datafusion::prelude::SessionContext;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The most bytes that a statement makes before it is refused, at all steps of its plan and of the planning together.
const MOST_MADE: usize = 4 * MAX_BATCH;

/// An engine over a table `c.d.t` of texts, and the bytes that the functions held to a length have made.
/// Those that operators are planned as are not among them: what they make is weighed before it is made.
struct Engine {
    context: SessionContext,
    made: Arc<AtomicUsize>,
}

/// One of the engine's own functions, whose results are added up.
#[derive(Debug)]
struct Counted {
    inner: Arc<dyn ScalarUDFImpl>,
    made: Arc<AtomicUsize>,
}

impl PartialEq for Counted {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for Counted {}

impl Hash for Counted {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name().hash(state);
    }
}

impl ScalarUDFImpl for Counted {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(types)
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(types)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let made = self.inner.invoke_with_args(args)?;
        let bytes = made.to_array(1)?.to_data().get_slice_memory_size()?;
        self.made.fetch_add(bytes, Ordering::Relaxed);
        Ok(made)
    }
}

fn engine(texts: Vec<Option<&str>>) -> Engine {
    let column: ArrayRef = Arc::new(StringArray::from(texts));
    let batch = RecordBatch::try_from_iter_with_nullable([("s", column, true)]).unwrap();
    let table = MemTable::try_new(batch.schema(), vec![vec![batch]]).unwrap();
    let schema = MemorySchemaProvider::new();
    schema
        .register_table("t".to_owned(), Arc::new(table))
        .unwrap();
    let catalog = MemoryCatalogProvider::new();
    catalog.register_schema("d", Arc::new(schema)).unwrap();
    let state = bare_builder(base_config()).build();
    state
        .catalog_list()
        .register_catalog("c".to_owned(), Arc::new(catalog));
    let context = SessionContext::new_with_state(state);
    let made = Arc::new(AtomicUsize::new(0));
    let counted = |f: Arc<ScalarUDF>| {
        Arc::new(ScalarUDF::new_from_impl(Counted {
            inner: Arc::clone(f.inner()),
            made: Arc::clone(&made),
        }))
    };
    let mut stock = SessionStateDefaults::default_scalar_functions();
    stock.retain(|f| Growth::of(f.name()).is_some());
    for f in bounded(stock.into_iter().map(counted).collect()) {
        context.register_udf(f.as_ref().clone());
    }
    Engine { context, made }
}

async fn ask(engine: &Engine, sql: &str) -> Result<Vec<RecordBatch>> {
    engine.context.sql(sql).await?.collect().await
}

async fn values(engine: &Engine, sql: &str) -> Vec<String> {
    let made = ask(engine, sql).await.unwrap();
    made.iter()
        .flat_map(|b| (0..b.num_rows()).map(|i| array_value_to_string(b.column(0), i).unwrap()))
        .collect()
}

async fn refused(engine: &Engine, sql: &str) {
    engine.made.store(0, Ordering::Relaxed);
    let short: String = sql.chars().take(80).collect();
    match ask(engine, sql).await {
        Err(e) => assert!(
            matches!(e.find_root(), DataFusionError::ResourcesExhausted(_)),
            "{short}: {e}"
        ),
        Ok(_) => panic!("{short} is answered"),
    }
    let made = engine.made.load(Ordering::Relaxed);
    assert!(made <= MOST_MADE, "{short}: {made} bytes");
}

/// Calls within one another, or queries, each of which makes its text a thousand times longer.
fn exploits(start: &str, a: &str) -> Vec<String> {
    let wide = |e: &str, by: &str, n: usize| vec![e; n].join(by);
    let nested = |step: &dyn Fn(&str) -> String| {
        (0..12).fold(start.to_owned(), |inner, _| {
            format!("(SELECT {} AS x FROM {inner})", step("x"))
        })
    };
    let mut all = vec![
        format!(
            "SELECT length(replace(replace(replace(x,'a','{a}'),'a','{a}'),'a','{a}')) FROM {start}"
        ),
        format!(
            "SELECT length(regexp_replace(regexp_replace(x,'a','{a}','g'),'a','{a}','g')) FROM {start}"
        ),
        format!(
            "SELECT length(regexp_replace(x,'(.*)','{}')) FROM {start}",
            "\\1".repeat(5_000)
        ),
        format!(
            "SELECT length(to_char(DATE '2024-01-01', {})) FROM {start}",
            wide("x", "||", 500)
        ),
    ];
    for step in [
        (&|x: &str| format!("concat({})", wide(x, ",", 8))) as &dyn Fn(&str) -> String,
        &|x| format!("concat_ws({x}, {})", wide(x, ",", 8)),
        &|x| wide(x, "||", 8),
        &|x| format!("overlay({x} PLACING {x} FROM 10000000 FOR -9999999)"),
        &|x| format!("overlay({x} PLACING {x}||{x}||{x}||{x} FROM 1)"),
        &|x| format!("upper(translate(upper({x}), 'ʼNA', 'ŉŉŉ'))"),
    ] {
        all.push(format!("SELECT length(x) FROM {}", nested(step)));
    }
    all
}

#[tokio::test]
async fn a_text_does_not_grow_without_end_from_literals() {
    let a = "a".repeat(1000);
    let engine = engine(vec![]);
    for sql in exploits(&format!("(SELECT '{a}' AS x)"), &a) {
        refused(&engine, &sql).await;
    }
    refused(
        &engine,
        &format!("SELECT length(replace(replace(replace('{a}','a','{a}'),'a','{a}'),'a','{a}'))"),
    )
    .await;
}

#[tokio::test]
async fn a_text_does_not_grow_without_end_from_a_column() {
    let a = "a".repeat(1000);
    let engine = engine(vec![Some(&a); 20]);
    for sql in exploits("(SELECT s AS x FROM c.d.t)", &a) {
        refused(&engine, &sql).await;
    }
}

#[tokio::test]
async fn texts_of_a_batch_are_bounded_together() {
    let a = "a".repeat(1000);
    let engine = engine(vec![Some(&a); 1000]);
    let long = "b".repeat(100_000);
    refused(
        &engine,
        &format!("SELECT length(concat(s, '{long}')) FROM c.d.t"),
    )
    .await;
    // The bound of one row is far above what it comes to: done in parts, and the same.
    let made = values(
        &engine,
        &format!(
            "SELECT length(regexp_replace(s, '^a', '{}', 'g')) FROM c.d.t",
            "b".repeat(900)
        ),
    )
    .await;
    assert_eq!(made, vec!["1899"; 1000]);
}

#[tokio::test]
async fn long_texts_are_not_compared_letter_by_letter() {
    let long = "a".repeat(60_000);
    let engine = engine(vec![Some(&long)]);
    refused(&engine, &format!("SELECT levenshtein('{long}', '{long}b')")).await;
    refused(&engine, "SELECT levenshtein(s, s) FROM c.d.t").await;
    assert_eq!(
        values(&engine, "SELECT levenshtein('kitten', 'sitting')").await,
        ["3"]
    );
}

#[tokio::test]
async fn what_is_short_is_as_the_engine_has_it() {
    let engine = engine(vec![Some("Kinson"), None, Some("")]);
    for (sql, wanted) in [
        ("concat(s, '-', 1)", ["Kinson-1", "-1", "-1"]),
        ("concat_ws('-', s, 'x', NULL)", ["Kinson-x", "x", "-x"]),
        (
            "coalesce(s || '-' || 1 || s, 'none')",
            ["Kinson-1Kinson", "none", "-1"],
        ),
        ("coalesce(s || NULL, 'none')", ["none", "none", "none"]),
        (
            "coalesce(replace(s, 'n', 'mm'), 'none')",
            ["Kimmsomm", "none", ""],
        ),
        (
            "coalesce(regexp_replace(s, '(n)', '<\\1>', 'g'), 'none')",
            ["Ki<n>so<n>", "none", ""],
        ),
        (
            "coalesce(overlay(s PLACING 'xx' FROM 2 FOR 1), 'none')",
            ["Kxxnson", "none", "xx"],
        ),
        ("coalesce(upper(s), 'none')", ["KINSON", "none", ""]),
        ("to_char(DATE '2024-02-01', '%Y-%m')", ["2024-02"; 3]),
        ("'a' || 'b' || 'c'", ["abc"; 3]),
    ] {
        assert_eq!(
            values(&engine, &format!("SELECT {sql} FROM c.d.t")).await,
            wanted,
            "{sql}"
        );
    }
}

#[tokio::test]
async fn a_join_of_texts_keeps_its_heading() {
    let engine = engine(vec![Some("a")]);
    let made = ask(&engine, "SELECT s || 'b' || s FROM c.d.t")
        .await
        .unwrap();
    assert_eq!(
        made[0].schema().field(0).name(),
        "c.d.t.s || Utf8(\"b\") || c.d.t.s"
    );
    assert_eq!(made[0].column(0).as_string::<i32>().value(0), "aba");
}

#[tokio::test]
async fn every_call_that_lengthens_text_is_planned_as_the_bounded_one() {
    use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
    let engine = engine(vec![Some("a")]);
    for sql in [
        "overlay(s PLACING s FROM 1)",
        "s || s",
        "concat(s, s)",
        "concat_ws('', s, s)",
        "concat_ws('-', s, 'a', 'b')",
        "date_format(DATE '2024-01-01', s)",
        "upper(lower(initcap(translate(s, 'a', 'b'))))",
        "regexp_replace(replace(s, 'a', 'b'), '^a', s)",
        "regexp_match(s, 'a')",
        "s ILIKE 'a%'",
    ] {
        let planned = engine
            .context
            .sql(&format!("SELECT {sql} FROM c.d.t"))
            .await
            .unwrap();
        for plan in [
            planned.logical_plan().clone(),
            planned.into_optimized_plan().unwrap(),
        ] {
            plan.apply(|node| {
                node.apply_expressions(|e| {
                    e.apply(|e| {
                        if let Expr::ScalarFunction(f) = e {
                            assert!(is_bounded(&f.func), "{sql}: {e}");
                        }
                        Ok(TreeNodeRecursion::Continue)
                    })
                })
            })
            .unwrap();
        }
    }
}
