//! Cells with parts at several owners.

use super::city::{city as without_room, sessions};
use super::*;
use crate::catalogue::CleanRoom;
use crate::remote::Mode;
use datafusion::prelude::SessionContext;
use guildhall_model::OutputClass;

const ROOM: &str = "spiffe://northmoor/council/clean-room/main";
const BY_WARD: &str = "select ward, count(*) as n, sum(paid) as s, count(distinct vehicle) as v \
                       from city.parking.sessions group by ward order by ward";

/// Sessions of a council, released together with nobody's yet.
fn of(council: &str, rows: i64, minimum: u32) -> Given {
    let name = format!("{council}.parking.sessions");
    let mut given = Given::open(&name, sessions(rows))
        .conforming("sessions")
        .private("vehicle", &["ward"], &["paid"]);
    given.product.minimum_group = minimum;
    given
}

/// All of which that are released as cells are released together.
fn with_room(given: Vec<Given>) -> City {
    let cells = |g: &&Given| g.product.class == ReleaseClass::Aggregate;
    let all: Vec<String> = given
        .iter()
        .filter(cells)
        .map(|g| g.product.council.to_string())
        .collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    with_room_for(given, &all)
}

/// The cells of these councils are released together.
fn with_room_for(mut given: Vec<Given>, councils: &[&str]) -> City {
    let of_them = |g: &&mut Given| councils.contains(&g.product.council.as_str());
    let names = given
        .iter_mut()
        .filter(of_them)
        .map(|g| g.product.product_ref());
    let all: std::collections::BTreeSet<_> = names.collect();
    for given in given.iter_mut().filter(of_them) {
        if given.product.class == ReleaseClass::Aggregate {
            given.product.joint_with = all.clone();
            given
                .product
                .joint_with
                .remove(&given.product.product_ref());
        }
    }
    joined_over(given)
}

fn joined_over(given: Vec<Given>) -> City {
    let city = City::of(given);
    let room = CleanRoom {
        peer: ROOM.parse().unwrap(),
        address: "room.test:1".to_owned(),
    };
    let catalogue = Arc::try_unwrap(city.catalogue).unwrap();
    City {
        catalogue: Arc::new(catalogue.with_clean_room(Some(room))),
        ..city
    }
}

fn city() -> City {
    with_room(vec![of("northmoor", 600, 10), of("southmere", 300, 12)])
}

/// Northmoor's as it is, and southmere's after `change`.
fn unlike(change: impl FnOnce(&mut Product)) -> City {
    let (mut one, mut other) = (of("northmoor", 600, 10), of("southmere", 300, 10));
    one.product.joint_with = [other.product.product_ref()].into();
    other.product.joint_with = [one.product.product_ref()].into();
    change(&mut other.product);
    joined_over(vec![one, other])
}

/// A clean room without rules, over the nodes of a city: it adds up what they give, key by key.
#[derive(Debug)]
struct Room(Arc<Nodes>);

#[async_trait]
impl FragmentRunner for Room {
    async fn run(&self, fragment: &Fragment) -> EngineResult<SendableRecordBatchStream> {
        if fragment.parts.is_empty() {
            return self.0.run(fragment).await;
        }
        let (mut batches, mut keys) = (Vec::new(), 0);
        for part in &fragment.parts {
            let stream = self.0.run(part).await?;
            let names = stream.schema();
            let columns = names.fields().len();
            keys = (0..columns)
                .filter(|at| names.field(*at).name() == "ward")
                .count();
            for batch in stream.try_collect::<Vec<_>>().await? {
                let columns = batch.columns().iter().enumerate();
                let columns = columns.map(|(at, c)| (format!("c{at}"), Arc::clone(c), true));
                batches.push(RecordBatch::try_from_iter_with_nullable(columns)?);
            }
        }
        let columns = batches[0].num_columns();
        let table = MemTable::try_new(batches[0].schema(), vec![batches])?;
        let context = SessionContext::new();
        context.register_table("parts", Arc::new(table))?;
        let told = |at: usize| match fragment.cell_status {
            true => format!("sum(c{at}), 'perturbed' as s{at}"),
            false => format!("sum(c{at})"),
        };
        let keyed: Vec<String> = (0..keys).map(|at| format!("c{at}")).collect();
        let told: Vec<String> = keyed
            .iter()
            .cloned()
            .chain((keys..columns).map(told))
            .collect();
        let group = match keyed.is_empty() {
            true => String::new(),
            false => format!("group by {}", keyed.join(", ")),
        };
        let sql = format!("select {} from parts {group}", told.join(", "));
        context.sql(&sql).await?.execute_stream().await
    }
}

async fn answer(city: &City, plan: &QueryPlan) -> Vec<String> {
    let runner = Arc::new(Room(Arc::clone(&city.nodes)));
    let stream = plan
        .execute(runner, ExecuteLimits::default())
        .await
        .unwrap();
    rows_of(&stream.try_collect::<Vec<_>>().await.unwrap())
}

async fn ask(city: &City, sql: &str) -> Vec<String> {
    let plan = city.plan(sql).await;
    answer(city, &plan.unwrap_or_else(|e| panic!("{sql}: {e:?}"))).await
}

/// The reason of a refusal as `joint-cells`, which says to group by council. Nobody is asked for anything.
async fn reason(city: &City, sql: &str) -> String {
    city.traffic();
    let error = city.refusal(sql).await;
    let PlanError::Refused { refusal } = &error else {
        panic!("{error:?}");
    };
    assert_eq!(refusal.rule, "joint-cells", "{refusal}");
    assert!(refusal.instead.contains("group by council"), "{refusal}");
    assert_eq!(city.traffic().0, 0);
    refusal.reason.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn cells_of_several_owners_are_one_fragment_with_a_part_for_each() {
    let city = city();
    let plan = city.plan(BY_WARD).await.unwrap();
    let [whole] = plan.fragments() else {
        panic!("{:?}", plan.explain());
    };
    assert_eq!(
        (whole.mode, whole.output),
        (Mode::Joint, OutputClass::ReleasedCells)
    );
    assert_eq!(
        (whole.node.to_string().as_str(), whole.address.as_str()),
        (ROOM, "room.test:1")
    );
    assert!(whole.bytes.is_empty() && whole.products.is_empty() && whole.recipient.is_none());
    let nodes: Vec<&str> = whole
        .parts
        .iter()
        .map(|p| p.node.council.as_str())
        .collect();
    assert_eq!(nodes, ["northmoor", "southmere"]);
    let mut digests = Vec::new();
    for part in whole.granted() {
        assert_eq!(
            (part.mode, part.output),
            (Mode::Joint, OutputClass::PartialCells)
        );
        assert_eq!(part.recipient.as_ref().unwrap().to_string(), ROOM);
        assert_eq!(part.digest, Digest::of(&part.bytes));
        assert_eq!(part.products[0].columns.len(), 3);
        digests.extend(*part.digest.as_bytes());
    }
    assert_eq!(whole.digest, Digest::of(&digests));
    assert!(plan.is_of_all());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_part_asks_the_same_under_the_same_names() {
    let city = city();
    let plan = city.plan(BY_WARD).await.unwrap();
    answer(&city, &plan).await;
    let ran = city.nodes.ran.lock().unwrap().clone();
    let [(_, north), (_, south)] = ran.as_slice() else {
        panic!("{ran:?}");
    };
    assert_eq!(north.replace("northmoor", "southmere"), *south);
    assert!(
        !plan
            .wire_schema()
            .fields()
            .iter()
            .any(|f| f.name().contains("moor"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn cells_of_several_owners_are_put_together() {
    let city = city();
    let by_ward = [
        "W0 | 300 | 896 | 80",
        "W1 | 300 | 895 | 80",
        "W2 | 300 | 901 | 80",
    ];
    assert_eq!(ask(&city, BY_WARD).await, by_ward);
    assert_eq!(
        ask(&city, "select count(*) from city.parking.sessions").await,
        ["900"]
    );
    let above = "select w.ward, w.n * 2 as d from (select ward, count(*) as n from city.parking.sessions group by ward \
                 having count(*) > 10) w order by w.ward desc limit 1";
    assert_eq!(ask(&city, above).await, ["W2 | 600"]);
    let wards = ask(
        &city,
        "select distinct ward from city.parking.sessions order by ward",
    )
    .await;
    assert_eq!(wards, ["W0", "W1", "W2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_owner_can_answer_is_not_sent_to_the_clean_room() {
    let city = city();
    for (sql, modes) in [
        (
            "select council, ward, count(*) from city.parking.sessions group by council, ward",
            vec!["local", "local"],
        ),
        (
            "select ward, count(*) from city.parking.sessions where council = 'southmere' group by ward",
            vec!["local"],
        ),
        (
            "select ward, count(*) from northmoor.parking.sessions group by ward",
            vec!["local"],
        ),
    ] {
        let plan = city.plan(sql).await.unwrap();
        let found: Vec<&str> = plan.fragments().iter().map(|f| f.mode.as_str()).collect();
        assert_eq!(found, modes, "{sql}");
        assert!(plan.fragments().iter().all(|f| f.recipient.is_none()));
        assert!(!plan.is_of_all(), "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn constants_among_the_keys_are_put_in_here_and_tell_apart_whom_they_can() {
    let city = with_room(vec![
        of("ashford", 90, 10),
        of("northmoor", 600, 10),
        of("southmere", 300, 12),
    ]);
    let same = "select 'all' as area, ward, count(*) as n from city.parking.sessions group by 1, 2 order by 2 limit 1";
    assert_eq!(ask(&city, same).await, ["all | W0 | 330"]);
    let given = vec![
        of("ashford", 90, 10),
        of("northmoor", 600, 10),
        of("southmere", 300, 12),
    ];
    let city = with_room_for(given, &["northmoor", "southmere"]);
    let apart = "select case when council = 'ashford' then 'inland' else 'coast' end as area, count(*) as n \
                 from city.parking.sessions group by 1 order by 1";
    let plan = city.plan(apart).await.unwrap();
    let modes: Vec<&str> = plan.fragments().iter().map(|f| f.mode.as_str()).collect();
    assert_eq!(modes, ["local", "joint"]);
    assert_eq!(answer(&city, &plan).await, ["coast | 900", "inland | 90"]);
    assert!(plan.is_of_all());
    let mixed = "select ward, count(*) as n from (select 'W0' as ward, vehicle from northmoor.parking.sessions \
                 union all select ward, vehicle from southmere.parking.sessions) t group by ward";
    assert!(reason(&city, mixed).await.contains("a constant of one"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_companion_stands_beside_each_value_that_was_put_together() {
    let city = city();
    let statement = guard(BY_WARD, &StatementLimits::default()).unwrap();
    let planner = city.planner.with_cell_status(true);
    let plan = planner
        .plan(&statement, &city.catalogue, None)
        .await
        .unwrap();
    assert!(plan.fragments()[0].cell_status);
    let first = "W0 | 300 | perturbed | 896 | perturbed | 80 | perturbed";
    assert_eq!(answer(&city, &plan).await[0], first);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_clean_room_nobody_is_asked_for_a_part() {
    let told = reason(&without_room(), BY_WARD).await;
    assert!(told.contains("no clean room is configured"), "{told}");
    assert!(told.contains("northmoor, southmoor"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn owners_that_are_not_all_of_those_who_release_together_are_not_put_together() {
    let city = unlike(|p| p.joint_with.clear());
    let told = reason(&city, BY_WARD).await;
    assert!(
        told.contains("`northmoor.parking.sessions` is not released together with")
            || told
                .contains("`southmere.parking.sessions` is not released together with any other"),
        "{told}"
    );
    // Two releases that differ by an owner would tell of that one.
    let three = || {
        vec![
            of("ashford", 90, 10),
            of("northmoor", 600, 10),
            of("southmere", 300, 12),
        ]
    };
    let some = "select ward, count(*) as n from city.parking.sessions where council in ('northmoor', 'southmere') group by ward";
    let told = reason(&with_room(three()), some).await;
    assert!(told.contains("`ashford.parking.sessions`"), "{told}");
    let pair = with_room_for(three(), &["northmoor", "southmere"]);
    assert!(
        reason(&pair, BY_WARD)
            .await
            .contains("`ashford.parking.sessions` is not")
    );
    assert_eq!(ask(&pair, some).await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn products_that_are_not_of_one_template_or_not_of_two_owners_are_not_put_together() {
    let mut stays = of("northmoor", 90, 10);
    stays.product.name = "stays".parse().unwrap();
    let city = with_room(vec![
        of("northmoor", 600, 10),
        stays,
        of("southmere", 300, 10),
        Given::open("ashford.parking.sessions", sessions(30)).conforming("sessions"),
    ]);
    let union = |a: &str, b: &str| {
        format!(
            "select ward, count(*) from (select ward from {a} union all select ward from {b}) t group by ward"
        )
    };
    let twice = union("northmoor.parking.sessions", "northmoor.parking.stays");
    assert!(reason(&city, &twice).await.contains("two parts"));
    let open = union("northmoor.parking.sessions", "ashford.parking.sessions");
    assert!(
        reason(&city, &open)
            .await
            .contains("not all released as cells")
    );
    let named = union("northmoor.parking.sessions", "southmere.parking.sessions");
    let pair = with_room(vec![of("northmoor", 600, 10), of("southmere", 300, 10)]);
    let plan = pair.plan(&named).await.unwrap();
    assert_eq!(plan.fragments()[0].mode, Mode::Joint);
    assert!(!plan.is_of_all());

    let city = unlike(|p| p.conforms_to = Some("stays".parse().unwrap()));
    assert!(reason(&city, &named).await.contains("one template"));
}

#[tokio::test(flavor = "multi_thread")]
async fn free_questions_are_not_asked_of_several_owners() {
    let given = |council| of(council, 600, 10).budgeted();
    let city = with_room(vec![given("northmoor"), given("southmere")]);
    let told = reason(
        &city,
        "select count(*) from city.parking.sessions where paid > 4711",
    )
    .await;
    assert!(told.contains("free questions"), "{told}");
    let city = self::city();
    let error = city
        .refusal("select count(*) from city.parking.sessions where paid > 3")
        .await;
    let PlanError::Refused { refusal } = error else {
        panic!("{error:?}");
    };
    assert!(refusal.rule.starts_with("cube."), "{refusal}");
}

#[tokio::test(flavor = "multi_thread")]
async fn owners_that_say_otherwise_what_a_cell_is_are_named_with_what_differs() {
    let roll_up = |values: &[&str]| RollUp {
        name: "inner".to_owned(),
        kind: RollUpKind::Group(values.iter().map(|v| (*v).to_owned()).collect()),
    };
    type Change = Box<dyn FnOnce(&mut Product)>;
    let changes: Vec<(&str, Change)> = vec![
        (
            "how many rows of one unit",
            Box::new(|p| p.max_rows_per_unit = 7),
        ),
        (
            "how measure `paid` is bounded",
            Box::new(|p| p.measures[0].upper = 5.0),
        ),
        (
            "which coarser cells",
            Box::new(move |p| p.dimensions[0].roll_ups.push(roll_up(&["W1", "W2"]))),
        ),
        (
            "the unit that is counted",
            Box::new(|p| {
                p.unit = Some("paid".parse().unwrap());
                p.columns[2].class = ColumnClass::Identifier;
                p.columns[0].class = ColumnClass::Measure;
            }),
        ),
    ];
    for (what, change) in changes {
        let unit = what.contains("unit that");
        let city = unlike(change);
        let sql = match unit {
            true => "select ward, count(*) from city.parking.sessions group by ward",
            false => BY_WARD,
        };
        let told = reason(&city, sql).await;
        assert!(told.contains(what), "{told}");
        assert!(
            told.contains("`northmoor.parking.sessions` and `southmere.parking.sessions`"),
            "{told}"
        );
    }
    // What is not asked about may differ.
    let city = unlike(|p| p.measures[0].upper = 5.0);
    assert_eq!(
        ask(&city, "select count(*) from city.parking.sessions").await,
        ["900"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_that_are_not_the_same_at_all_owners_are_not_put_together() {
    let city = city();
    let sql = "select count(*) from (select ward, vehicle from northmoor.parking.sessions where ward = 'W1' \
               union all select ward, vehicle from southmere.parking.sessions where ward = 'Jane') t";
    let told = reason(&city, sql).await;
    assert!(told.contains("what cells are limited to"), "{told}");
    assert!(!told.contains("Jane"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_strictest_owners_limits_are_told() {
    let city = city();
    let plan = city.plan(BY_WARD).await.unwrap();
    let told = |name: &str, key: &str| {
        let field = plan.wire_schema().field_with_name(name).unwrap();
        field.metadata()[key].clone()
    };
    assert_eq!(
        told("v", "guildhall.rule"),
        "minimum-group=12;margins;cell-key=5,3"
    );
    assert_eq!(told("v", "guildhall.error"), "at most 5");
    let sums = guildhall_accuracy::cube::sum_error(5);
    assert_eq!(told("s", "guildhall.error"), sums);
    let statement = guard(BY_WARD, &StatementLimits::default()).unwrap();
    let prepared = city.planner.prepare(&statement, &city.catalogue).await;
    assert_eq!(prepared.unwrap().schema, *plan.wire_schema());
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_tells_who_contributes_what_to_whose_clean_room() {
    let city = city();
    let sql = "explain select ward, count(*) as n from city.parking.sessions where ward = 'W2' group by ward";
    let room = "the clean room of northmoor";
    let limits = "minimum group of 12 distinct units, put together of 2 owners (northmoor.parking: minimum group 10; \
                  southmere.parking: minimum group 12; the strictest, 12, holds)";
    let contributed = "of each cell: units, totals, largest contributions, sum of record keys";
    let part = |council: &str| {
        format!(
            "contribute parts of cells of {council}.parking.sessions | spiffe://{council}/parking/node/one | joint | \
             {contributed} | not released yet: to {room} alone"
        )
    };
    let steps = city.ask(sql).await;
    let steps: Vec<&str> = steps.iter().map(|s| s.trim()).collect();
    let whole = format!(
        "put together and release cells of northmoor.parking.sessions, southmere.parking.sessions | {room} | joint | \
         ward, count(Int64(1)) | {limits}"
    );
    assert!(steps.contains(&whole.as_str()), "{steps:#?}");
    assert!(steps.contains(&part("northmoor").as_str()), "{steps:#?}");
    assert!(steps.contains(&part("southmere").as_str()), "{steps:#?}");
    assert!(!steps.iter().any(|s| s.contains("W2")), "{steps:#?}");
    assert_eq!(city.traffic().0, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_privacy_tells_that_cells_are_put_together_and_how_strictly() {
    let city = city();
    let plan = city
        .plan(&format!("explain privacy {BY_WARD}"))
        .await
        .unwrap();
    let facts = &plan.privacy().unwrap().facts;
    let told = |what: &str| {
        let fact = facts.iter().find(|f| f.what == what);
        fact.unwrap_or_else(|| panic!("{facts:?}"))
    };
    let both = "northmoor.parking.sessions, southmere.parking.sessions";
    for (what, begins) in [
        ("lane", "cube"),
        ("mode", "joint: 2 owners"),
        ("cost", "nothing"),
        ("withheld", "minimum-group: cells of fewer than 12"),
    ] {
        assert!(told(what).detail.starts_with(begins), "{facts:?}");
        assert_eq!(told(what).product, both);
    }
    let error = facts.iter().find(|f| f.what == "error" && f.column == "v");
    assert_eq!(error.unwrap().detail, "at most 5");
    assert!(plan.privacy().unwrap().costs.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn each_part_counts_as_one_of_a_statements_fragments() {
    let given = ["ashford", "northmoor", "southmere"].map(|c| of(c, 300, 10));
    let mut city = with_room(given.into());
    for (max_fragments, fits) in [(2, false), (3, true)] {
        city.planner = Planner::new(PlannerLimits {
            max_fragments,
            ..PlannerLimits::default()
        });
        let planned = city.plan(BY_WARD).await;
        assert_eq!(planned.is_ok(), fits, "{planned:?}");
    }
}
