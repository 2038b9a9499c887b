//! Which of many queries a document can concern.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
};

use idem_model::{CollectionName, DocId, FieldPath, Object, Value};

use super::key_of;
use crate::{
    ast::CompareOp,
    bound::{Body, FromItem, Place},
    error::QueryError,
    eval::{Env, Row, eval},
    expr::Expr,
    plan::{Test, Tested},
    statement::Statement,
};

/// Queries by what they ask for, so that a change finds those it can concern without looking at the
/// others: a query with `field = value` (or IN, or a bound such as `field > value`) in its condition
/// is found through the field's value. What is found is a superset: the query's own condition decides.
///
/// Adding, removing and a look-up cost the logarithm of the number of queries, and for a look-up what
/// it finds.
#[derive(Debug, Clone)]
pub struct Interests<K> {
    collections: BTreeMap<CollectionName, Watchers<K>>,
    placed: BTreeMap<K, Vec<(CollectionName, Post)>>,
}

/// The queries on one collection.
#[derive(Debug, Clone)]
struct Watchers<K> {
    /// Those that any document may concern.
    all: BTreeSet<K>,
    by_field: BTreeMap<FieldPath, ByValue<K>>,
}

/// The queries that ask for values of one field; keys as of [`key_of`].
#[derive(Debug, Clone)]
struct ByValue<K> {
    equal: BTreeMap<Vec<u8>, BTreeSet<K>>,
    at_least: BTreeMap<Vec<u8>, BTreeSet<K>>,
    at_most: BTreeMap<Vec<u8>, BTreeSet<K>>,
}

/// Where a query waits.
#[derive(Debug, Clone, PartialEq)]
enum Post {
    All,
    Equal(FieldPath, Vec<u8>),
    AtLeast(FieldPath, Vec<u8>),
    AtMost(FieldPath, Vec<u8>),
}

impl<K> Default for Interests<K> {
    fn default() -> Self {
        Self {
            collections: BTreeMap::new(),
            placed: BTreeMap::new(),
        }
    }
}

impl<K: Copy + Ord + Debug> Interests<K> {
    /// Adds a query under a key that is not in use.
    ///
    /// # Errors
    /// [`QueryError`] if an argument is missing.
    pub fn insert(
        &mut self,
        key: K,
        statement: &Statement,
        args: &Object,
    ) -> Result<(), QueryError> {
        let env = Env::new(statement.text(), statement.arguments(args)?, 0);
        let ways = ways(statement, &env);
        // Where many queries share a condition, they wait at one that they do not share.
        let posts = ways
            .into_iter()
            .min_by_key(|posts| self.crowd(posts))
            .unwrap_or_default();
        for (collection, post) in &posts {
            let watchers = self.collections.entry(collection.clone()).or_default();
            if let Some(keys) = watchers.at(post, true) {
                keys.insert(key);
            }
        }
        self.placed.insert(key, posts);
        Ok(())
    }

    /// How many wait at these posts already, those at ranges counted as more than any at values.
    fn crowd(&self, posts: &[(CollectionName, Post)]) -> (bool, bool, usize) {
        let waiting = |(collection, post): &(CollectionName, Post)| {
            let watchers = self.collections.get(collection)?;
            let (Post::Equal(path, key) | Post::AtLeast(path, key) | Post::AtMost(path, key)) =
                post
            else {
                return Some(watchers.all.len());
            };
            let by_value = watchers.by_field.get(path)?;
            by_value.posts(post).get(key).map(BTreeSet::len)
        };
        let is_all = posts.iter().any(|(_, post)| *post == Post::All);
        let is_range = posts
            .iter()
            .any(|(_, post)| !matches!(post, Post::Equal(..)));
        let crowds = posts.iter().filter_map(waiting);
        (is_all, is_range, crowds.sum())
    }

    /// Removes a query; nothing happens if it is not there.
    pub fn remove(&mut self, key: K) {
        for (collection, post) in self.placed.remove(&key).unwrap_or_default() {
            let Some(watchers) = self.collections.get_mut(&collection) else {
                continue;
            };
            if let Some(keys) = watchers.at(&post, false) {
                keys.remove(&key);
            }
            watchers.tidy(&post);
            if watchers.all.is_empty() && watchers.by_field.is_empty() {
                self.collections.remove(&collection);
            }
        }
    }

    /// Whether any query reads the collection.
    pub fn watches(&self, collection: &CollectionName) -> bool {
        self.collections.contains_key(collection)
    }

    /// Whether a document of the collection can concern any query, by its id alone: not if all that
    /// read the collection ask for other ids. A look-up that decodes nothing.
    pub fn may_concern(&self, collection: &CollectionName, id: &DocId) -> bool {
        let Some(watchers) = self.collections.get(collection) else {
            return false;
        };
        let ids = watchers.by_field.get(&FieldPath::field("_id"));
        match ids {
            Some(by_id) if watchers.all.is_empty() && watchers.by_field.len() == 1 => {
                !by_id.at_least.is_empty()
                    || !by_id.at_most.is_empty()
                    || by_id.equal.contains_key(&key_of(id.as_value()))
            }
            _ => true,
        }
    }

    /// Adds to `found` the queries that a document of the collection can concern. Called with the
    /// document as it was and as it is; `None`, where only the collection is known, finds all.
    pub fn find(
        &self,
        collection: &CollectionName,
        image: Option<&Object>,
        found: &mut BTreeSet<K>,
    ) {
        let Some(watchers) = self.collections.get(collection) else {
            return;
        };
        found.extend(&watchers.all);
        for (path, by_value) in &watchers.by_field {
            let Some(image) = image else {
                by_value.every(found);
                continue;
            };
            // Nothing compares with null.
            let value = path.find(image);
            let Some(value) = value.filter(|value| !matches!(value, Value::Null)) else {
                continue;
            };
            let value = key_of(value);
            found.extend(by_value.equal.get(&value).into_iter().flatten());
            found.extend(
                by_value
                    .at_least
                    .range(..=value.clone())
                    .flat_map(|(_, keys)| keys),
            );
            found.extend(by_value.at_most.range(value..).flat_map(|(_, keys)| keys));
        }
    }
}

/// A way to wait: at all of these posts.
type Way = Vec<(CollectionName, Post)>;

/// The ways in which a statement's query can wait so that no change escapes it.
fn ways(statement: &Statement, env: &Env<'_>) -> Vec<Way> {
    let collections = statement.collections();
    let everywhere = collections.iter();
    let everywhere = everywhere.map(|collection| (collection.clone(), Post::All));
    let mut ways = vec![everywhere.collect()];
    if let ([collection], Some(item)) = (collections, only_item(statement)) {
        let narrow = narrow_ways(item, env).into_iter();
        ways.extend(narrow.map(|posts| {
            let posts = posts.into_iter();
            posts.map(|post| (collection.clone(), post)).collect()
        }));
    }
    ways
}

/// The source of a statement that reads one stored collection in one place.
fn only_item(statement: &Statement) -> Option<&FromItem> {
    super::followable(statement)
        .map(|(_, _, item)| item)
        .filter(|item| matches!(item.place, Place::Stored(_)))
        .or_else(|| match statement.body() {
            Body::Select(query) if query.branches.len() == 1 => {
                let branch = &query.branches[0];
                let is_plain = branch.from.len() == 1
                    && super::exprs(query, branch, &branch.from[0]).all(|expr| !has_subquery(expr));
                is_plain.then(|| &branch.from[0])
            }
            _ => None,
        })
}

fn has_subquery(expr: &Expr) -> bool {
    let mut found = matches!(expr, Expr::Subquery(..));
    expr.each_child(&mut |child, _| found = found || has_subquery(child));
    found
}

/// Each condition that every document of the result meets, as the posts to wait at.
fn narrow_ways(item: &FromItem, env: &Env<'_>) -> Vec<Vec<Post>> {
    // The clock gives another value later.
    let constant = |expr: &Expr| {
        (expr.is_constant() && super::follows_from_the_document(expr))
            .then(|| eval(expr, env, &Row::default()).get().cloned())
    };
    if let Some(ids) = &item.access.ids {
        return match constant(ids) {
            Some(Some(Value::Array(items))) => vec![each(&FieldPath::field("_id"), &items)],
            Some(_) => vec![Vec::new()],
            None => Vec::new(),
        };
    }
    let mut ways = Vec::new();
    for test in &item.access.tests {
        let Tested::Path(path) = &test.of else {
            continue;
        };
        match &test.test {
            Test::Compare(CompareOp::Equal, value) => match constant(value) {
                Some(Some(value)) => ways.push(each(path, &[value])),
                // Nothing equals MISSING.
                Some(None) => ways.push(Vec::new()),
                None => {}
            },
            Test::In(list) => match constant(list) {
                Some(Some(Value::Array(items))) => ways.push(each(path, &items)),
                Some(_) => ways.push(Vec::new()),
                None => {}
            },
            Test::Compare(CompareOp::Greater | CompareOp::GreaterEqual, value)
            | Test::Between(value, _) => {
                if let Some(Some(value)) = constant(value).filter(is_scalar) {
                    ways.push(vec![Post::AtLeast(path.clone(), key_of(&value))]);
                }
            }
            Test::Compare(CompareOp::Less | CompareOp::LessEqual, value) => {
                if let Some(Some(value)) = constant(value).filter(is_scalar) {
                    ways.push(vec![Post::AtMost(path.clone(), key_of(&value))]);
                }
            }
            _ => {}
        }
    }
    ways
}

fn is_scalar(value: &Option<Value>) -> bool {
    !matches!(value, Some(Value::Array(_) | Value::Object(_)))
}

/// One post for each value; nothing equals null.
fn each(path: &FieldPath, values: &[Value]) -> Vec<Post> {
    let keys: BTreeSet<Vec<u8>> = values
        .iter()
        .filter(|value| !matches!(value, Value::Null))
        .map(key_of)
        .collect();
    let posts = keys.into_iter();
    posts.map(|key| Post::Equal(path.clone(), key)).collect()
}

impl<K> Default for Watchers<K> {
    fn default() -> Self {
        Self {
            all: BTreeSet::new(),
            by_field: BTreeMap::new(),
        }
    }
}

impl<K> Default for ByValue<K> {
    fn default() -> Self {
        Self {
            equal: BTreeMap::new(),
            at_least: BTreeMap::new(),
            at_most: BTreeMap::new(),
        }
    }
}

impl<K: Copy + Ord> Watchers<K> {
    /// The queries at a post, which is made if it is asked for and not there.
    fn at(&mut self, post: &Post, is_made: bool) -> Option<&mut BTreeSet<K>> {
        let (path, key) = match post {
            Post::All => return Some(&mut self.all),
            Post::Equal(path, key) | Post::AtLeast(path, key) | Post::AtMost(path, key) => {
                (path, key)
            }
        };
        if is_made {
            let by_value = self.by_field.entry(path.clone()).or_default();
            return Some(by_value.of(post).entry(key.clone()).or_default());
        }
        self.by_field.get_mut(path)?.of(post).get_mut(key)
    }

    /// Drops a post where nobody waits any more.
    fn tidy(&mut self, post: &Post) {
        let (Post::Equal(path, key) | Post::AtLeast(path, key) | Post::AtMost(path, key)) = post
        else {
            return;
        };
        let Some(by_value) = self.by_field.get_mut(path) else {
            return;
        };
        let posts = by_value.of(post);
        if posts.get(key).is_some_and(BTreeSet::is_empty) {
            posts.remove(key);
        }
        let is_empty = by_value.equal.is_empty()
            && by_value.at_least.is_empty()
            && by_value.at_most.is_empty();
        if is_empty {
            self.by_field.remove(path);
        }
    }
}

impl<K: Copy + Ord> ByValue<K> {
    fn of(&mut self, post: &Post) -> &mut BTreeMap<Vec<u8>, BTreeSet<K>> {
        match post {
            Post::AtLeast(..) => &mut self.at_least,
            Post::AtMost(..) => &mut self.at_most,
            Post::All | Post::Equal(..) => &mut self.equal,
        }
    }

    fn posts(&self, post: &Post) -> &BTreeMap<Vec<u8>, BTreeSet<K>> {
        match post {
            Post::AtLeast(..) => &self.at_least,
            Post::AtMost(..) => &self.at_most,
            Post::All | Post::Equal(..) => &self.equal,
        }
    }

    fn every(&self, found: &mut BTreeSet<K>) {
        for posts in [&self.equal, &self.at_least, &self.at_most] {
            found.extend(posts.values().flatten());
        }
    }
}
