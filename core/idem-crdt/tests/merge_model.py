#!/usr/bin/env python3
"""The meaning of merging, executable: docs/merging.md as the smallest program that has it.

It is slow and wasteful on purpose: no compact form, no deltas on the wire. Use it as the independent twin
in model tests (`python3 merge_model.py` checks itself; `merge_model.py replay` reads JSON lines of
operations on stdin and prints the visible documents, see `replay` below).

A document on one peer is
    vv     actor -> n         the commits merged into it
    lives  dot -> Map         the lives that have not ended; a dot is (actor, n)
    Map    key -> Node
    Node   reg  dot -> (hlc, value)          concurrent values of a register
           map  Map or None, mdots: dots      a nested map and the writes that say it exists
           ctr  None or Counter
    Counter base  dot -> (hlc, value, seen)   RESTARTs; seen = actor -> running sum at that moment
            sums  actor -> (n, running sum)   never removed inside a life
            dots  the writes that say the counter exists
A counter is one at its path over all lives: each life has its own sums and what a RESTART or UNSET saw of
them, and what is shown adds them up. So the end of a life takes its increments with it and no others.
`|` below is merge. Everything but `sums` is a dotted store under the context vv: what only one side has
stays if the other side's vv does not cover its dot, and goes if it does (the other side removed it).
"""
import copy, json, random, sys

ORIGIN = "0-initial"          # the pseudo actor of INSERT INITIAL: every peer makes the same life


class Node:
    def __init__(self):
        self.reg, self.map, self.mdots, self.ctr = {}, None, set(), None

    def empty(self):
        return not self.reg and not self.map and not self.mdots and self.ctr is None


class Counter:
    def __init__(self):
        self.base, self.sums, self.dots = {}, {}, set()

    def value(self):
        seen, v = {}, 0
        if self.base:
            d = max(self.base, key=lambda d: (self.base[d][0], d))
            _, v, seen = self.base[d]
        return v + sum(s - seen.get(a, 0) for a, (_, s) in self.sums.items())


class Doc:
    def __init__(self):
        self.vv, self.lives = {}, {}


def covers(vv, dot):
    return vv.get(dot[0], 0) >= dot[1]


def keep(mine, other, other_vv):
    """Dots of `mine` that survive a merge with a side that has `other` and knows `other_vv`."""
    return {d for d in mine if d in other or not covers(other_vv, d)}


def merge_dotted(a, b, avv, bvv):
    ks = keep(a, b, bvv) | keep(b, a, avv)
    return {d: a.get(d, b.get(d)) for d in ks}


def merge_sets(a, b, avv, bvv):
    return keep(a, b, bvv) | keep(b, a, avv)


def merge_ctr(a, b, avv, bvv):
    if a is None and b is None:
        return None
    a, b, c = a or Counter(), b or Counter(), Counter()
    if avv is APART:
        return add_ctr(a, b)
    c.base = merge_dotted(a.base, b.base, avv, bvv)
    c.dots = merge_sets(a.dots, b.dots, avv, bvv)
    for s in (a.sums, b.sums):
        for actor, e in s.items():
            if actor not in c.sums or e[0] > c.sums[actor][0]:
                c.sums[actor] = e
    return c


APART = {}                    # stands for the context where two lives are seen as one


def add_ctr(a, b):
    """The counters of two lives: sums of different lives never contain each other."""
    c = Counter()
    c.dots = a.dots | b.dots
    for x in (a, b):
        for actor, (n, s) in x.sums.items():
            m, t = c.sums.get(actor, (0, 0))
            c.sums[actor] = (max(m, n), t + s)
        for d, (h, v, seen) in x.base.items():           # one RESTART has one base in each life that it saw
            t = c.base.get(d, (h, v, {}))[2]
            c.base[d] = (h, v, {k: t.get(k, 0) + seen.get(k, 0) for k in set(t) | set(seen)})
    return c


def merge_node(a, b, avv, bvv):
    n = Node()
    n.reg = merge_dotted(a.reg, b.reg, avv, bvv)
    n.mdots = merge_sets(a.mdots, b.mdots, avv, bvv)
    n.ctr = merge_ctr(a.ctr, b.ctr, avv, bvv)
    if a.map is not None or b.map is not None:
        n.map = merge_map(a.map or {}, b.map or {}, avv, bvv)
    return n


def merge_map(a, b, avv, bvv):
    out = {}
    for k in sorted(set(a) | set(b)):
        n = merge_node(a.get(k) or Node(), b.get(k) or Node(), avv, bvv)
        if not n.empty():
            out[k] = n
    return out


def merge(a, b):
    """The join of two states of one document."""
    d = Doc()
    d.vv = {x: max(a.vv.get(x, 0), b.vv.get(x, 0)) for x in set(a.vv) | set(b.vv)}
    for life in merge_sets(set(a.lives), set(b.lives), a.vv, b.vv):
        # a life that only one side has carries everything in it: the other side never had any of it
        d.lives[life] = merge_map(a.lives.get(life, {}), b.lives.get(life, {}), a.vv, b.vv)
    return d


# ---- what a user sees

def newest_kind(n):
    """The visible kind of a node: that of its newest write."""
    best = None
    for d, (h, _) in n.reg.items():
        best = max(best or ((-1,), ""), ((h,) + d, "reg"))
    for d, h in ((d, n_hlc(n, d)) for d in n.mdots):
        best = max(best or ((-1,), ""), ((h,) + d, "map"))
    if n.map:
        for c in n.map.values():
            t = node_time(c)
            if t:
                best = max(best or ((-1,), ""), (t, "map"))
    if n.ctr and n.ctr.dots:
        for d in n.ctr.dots:
            best = max(best or ((-1,), ""), ((HLC.get(d, 0),) + d, "ctr"))
    return best and best[1]


HLC = {}                       # dot -> hlc of that commit (a stamp table in the real thing)


def n_hlc(_n, d):
    return HLC.get(d, 0)


def node_time(n):
    ts = [(h,) + d for d, (h, _) in n.reg.items()] + [(HLC.get(d, 0),) + d for d in n.mdots]
    if n.map:
        ts += [t for t in map(node_time, n.map.values()) if t]
    if n.ctr:
        ts += [(HLC.get(d, 0),) + d for d in n.ctr.dots]
    return max(ts) if ts else None


def join_lives(doc):
    """All lives seen as one map: a union, since their dots differ."""
    out = {}
    for life in sorted(doc.lives):
        out = merge_map(out, doc.lives[life], APART, APART)
    return out


def show_node(n):
    kind = newest_kind(n)
    if kind == "reg":
        d = max(n.reg, key=lambda d: (n.reg[d][0], str(d[0]), d[1]))
        return True, n.reg[d][1]
    if kind == "ctr":
        return True, n.ctr.value()
    if kind == "map":
        return True, show_map(n.map or {})
    return False, None


def show_map(m):
    out = {}
    for k, n in m.items():
        there, v = show_node(n)
        if there:
            out[k] = v
    return out


def show(doc):
    """The visible fields, or None where the document is not there."""
    return show_map(join_lives(doc)) if doc.lives else None


def conflicts(doc, path):
    """All concurrent values of a register, newest first."""
    m = join_lives(doc)
    for k in path[:-1]:
        m = (m.get(k) or Node()).map or {}
    n = m.get(path[-1]) or Node()
    return [n.reg[d][1] for d in sorted(n.reg, key=lambda d: (n.reg[d][0], str(d[0]), d[1]), reverse=True)]


# ---- what a peer does

class Peer:
    """One actor with one document. `clock` is its HLC (any rising number)."""

    def __init__(self, actor):
        self.actor, self.n, self.clock, self.doc = actor, 0, 0, Doc()

    def commit(self, now):
        self.n += 1
        self.clock = max(self.clock + 1, now)
        dot = (self.actor, self.n)
        HLC[dot] = self.clock
        self.doc.vv[self.actor] = self.n
        return dot

    def receive(self, other):
        self.doc = merge(self.doc, other.doc)
        self.clock = max(self.clock, other.clock)

    # each operation is one commit; `None` where the statement would match no document
    def insert(self, fields, now):
        if self.doc.lives:
            return self.set_all(fields, now)            # ON ID CONFLICT DO UPDATE
        dot = self.commit(now)
        self.doc.lives[dot] = {}
        for k, v in fields.items():
            write(self.doc.lives[dot], k, v, dot, self.clock)
        return dot

    def insert_initial(self, fields):
        """Same defaults on every peer; time zero; loses to any real write and to a tombstone."""
        if self.doc.lives or covers(self.doc.vv, (ORIGIN, 1)):
            return None
        self.doc.lives[(ORIGIN, 1)] = {}
        self.doc.vv[ORIGIN] = 1
        for k, v in fields.items():
            # the dot names the value, so equal defaults are one version and unequal ones tie by value
            a = ORIGIN + "/" + json.dumps([k, v], sort_keys=True)
            self.doc.vv[a] = 1
            HLC[(a, 1)] = 0
            write(self.doc.lives[(ORIGIN, 1)], k, v, (a, 1), 0)
        return (ORIGIN, 1)

    def main_life(self):
        return max(self.doc.lives, key=lambda d: (HLC.get(d, 0), str(d[0]), d[1]))

    def set_all(self, fields, now):
        dot = self.commit(now)
        for k, v in fields.items():
            self._set([k], v, dot)
        return dot

    def set(self, path, v, now):
        if not self.doc.lives:
            return None
        dot = self.commit(now)
        self._set(path, v, dot)
        return dot

    def _set(self, path, v, dot):
        if isinstance(v, dict) and v:                   # an object merges key by key
            for k, x in v.items():
                self._set(path + [k], x, dot)
            return
        main = self.main_life()
        for life, m in self.doc.lives.items():          # what this write saw at the path is superseded
            n = find(m, path)
            if n is not None and not isinstance(v, dict):
                n.reg = {}
        m = self.doc.lives[main]
        for k in path[:-1]:
            n = m.setdefault(k, Node())
            if n.map is None:
                n.map = {}
            m = n.map
        write(m, path[-1], v, dot, self.clock)

    def unset(self, path, now):
        if not self.doc.lives:
            return None
        dot = self.commit(now)
        for m in self.doc.lives.values():
            n = find(m, path)
            if n is not None:
                clear(n, dot, self.clock)
        for m in self.doc.lives.values():
            prune(m)
        return dot

    def increment(self, path, d, now):
        if not self.doc.lives:
            return None
        dot = self.commit(now)
        c = self._counter(path)
        c.dots = {dot}
        c.sums[self.actor] = (self.n, c.sums.get(self.actor, (0, 0))[1] + d)
        return dot

    def restart(self, path, v, now):
        if not self.doc.lives:
            return None
        dot = self.commit(now)
        self._counter(path).dots = {dot}
        for m in self.doc.lives.values():               # in each life, what was seen there
            n = find(m, path)
            if n is not None and n.ctr is not None:
                n.ctr.base = {dot: (self.clock, v, {a: s for a, (_, s) in n.ctr.sums.items()})}
        return dot

    def _counter(self, path):
        m = self.doc.lives[self.main_life()]
        for k in path[:-1]:
            n = m.setdefault(k, Node())
            if n.map is None:
                n.map = {}
            m = n.map
        n = m.setdefault(path[-1], Node())
        n.ctr = n.ctr or Counter()
        return n.ctr

    def delete(self, now):
        if not self.doc.lives:
            return None
        dot = self.commit(now)
        self.doc.lives = {}
        return dot


def write(m, key, v, dot, hlc):
    if isinstance(v, dict):
        n = m.setdefault(key, Node())
        if n.map is None:
            n.map = {}
        n.mdots = {dot}
        for k, x in v.items():
            write(n.map, k, x, dot, hlc)
    else:
        n = m.setdefault(key, Node())
        n.reg = {dot: (hlc, v)}


def find(m, path):
    for k in path[:-1]:
        n = m.get(k)
        if n is None or n.map is None:
            return None
        m = n.map
    return m.get(path[-1])


def clear(n, dot, hlc):
    """Remove what is there. A counter leaves its sums, so that increments it did not see still count alone."""
    n.reg, n.mdots = {}, set()
    if n.ctr is not None:
        n.ctr.base = {dot: (hlc, 0, {a: s for a, (_, s) in n.ctr.sums.items()})}
        n.ctr.dots = set()
    for c in (n.map or {}).values():
        clear(c, dot, hlc)


def prune(m):
    for k in list(m):
        n = m[k]
        if n.map is not None:
            prune(n.map)
            if not n.map:
                n.map = None
        if n.empty():
            del m[k]


# ---- self check

def canon(doc):
    def node(n):
        return [sorted((str(d), h, json.dumps(v, sort_keys=True)) for d, (h, v) in n.reg.items()), sorted(map(str, n.mdots)),
                mp(n.map or {}), n.ctr and [sorted((str(d), b[0], b[1], sorted(b[2].items())) for d, b in n.ctr.base.items()),
                                            sorted(n.ctr.sums.items()), sorted(map(str, n.ctr.dots))]]

    def mp(m):
        return sorted((k, node(n)) for k, n in m.items())
    return json.dumps([sorted(doc.vv.items()), sorted((str(l), mp(m)) for l, m in doc.lives.items())], sort_keys=True)


def random_step(rnd, ps, now):
    p, c = rnd.choice(ps), rnd.random()
    path = rnd.choice([["a"], ["b"], ["m", "x"], ["m", "y"], ["m", "n", "z"], ["c"], ["m", "c"]])
    if c < .25:
        p.receive(rnd.choice(ps))
    elif c < .4:
        p.insert({rnd.choice("ab"): rnd.randint(0, 9), "m": {rnd.choice("xy"): rnd.randint(0, 9)}}, now)
    elif c < .45:
        p.insert_initial({"a": rnd.choice([1, 2]), "m": {"x": 0}})
    elif c < .65:
        p.set(path, rnd.choice([1, 2, None, "s", [1], {}, {"q": 1}]), now)
    elif c < .78:
        p.increment(rnd.choice([["c"], ["m", "c"]]), rnd.randint(-3, 5), now)
    elif c < .82:
        p.restart(rnd.choice([["c"], ["m", "c"]]), rnd.randint(0, 100), now)
    elif c < .93:
        p.unset(rnd.choice([path, ["m"], ["m", "n"]]), now)
    else:
        p.delete(now)


def check(seeds):
    for seed in range(seeds):
        rnd = random.Random(seed)
        HLC.clear()
        ps = [Peer("ABCD"[i]) for i in range(rnd.randint(2, 4))]
        for step in range(rnd.randint(5, 40)):
            random_step(rnd, ps, rnd.randint(0, 60) + step)
        docs = [copy.deepcopy(p.doc) for p in ps]
        results = set()
        for _ in range(6):
            o = docs[:]
            rnd.shuffle(o)
            while len(o) > 1:                            # any tree of merges, either side first
                i = rnd.randrange(len(o) - 1)
                x, y = o.pop(i), o.pop(i)
                o.insert(i, merge(x, y) if rnd.random() < .5 else merge(y, x))
            r = merge(o[0], rnd.choice(docs))           # again: idempotent
            results.add(canon(r))
        assert len(results) == 1, f"seed {seed}: the order of merging changes the result"
    print(f"{seeds} seeds: associative, commutative, idempotent")


def pair(setup, a, b, later="B"):
    HLC.clear()
    pa, pb = Peer("A"), Peer("B")
    setup(pa)
    pb.receive(pa)
    ta, tb = (200, 100) if later == "A" else (100, 200)
    a(pa, ta)
    b(pb, tb)
    pa.receive(pb)
    pb.receive(pa)
    assert canon(pa.doc) == canon(pb.doc)
    return show(pa.doc), pa


def table():
    one = lambda f: (lambda p: p.insert(f, 1))
    for later in "AB":
        assert pair(one({"s": "x"}), lambda p, t: p.set(["s"], "A", t), lambda p, t: p.set(["s"], "B", t), later)[0] == {"s": later}
        _, p = pair(one({"s": "x"}), lambda p, t: p.set(["s"], "A", t), lambda p, t: p.set(["s"], "B", t), later)
        assert sorted(conflicts(p.doc, ["s"])) == ["A", "B"]
        eq = lambda want, *x: (lambda got: (_ for _ in ()).throw(AssertionError((got, want, later))) if got != want else None)(pair(*x, later)[0])
        eq({"o": {"a": 2, "b": 3}}, one({"o": {"a": 1, "b": 1}}), lambda p, t: p.set(["o", "a"], 2, t), lambda p, t: p.set(["o", "b"], 3, t))
        eq({"o": {"a": 10, "b": 20}}, one({"o": {"a": 1}}), lambda p, t: p.set(["o"], {"a": 10}, t), lambda p, t: p.set(["o", "b"], 20, t))
        eq({"o": {"c": 5}}, one({"o": {"a": 1, "b": 2}}), lambda p, t: p.unset(["o"], t), lambda p, t: p.set(["o", "c"], 5, t))
        eq({"m": {"i": {"q": 5}}}, one({"m": {"i": {"n": "p", "q": 2}}}), lambda p, t: p.unset(["m", "i"], t), lambda p, t: p.set(["m", "i", "q"], 5, t))
        ctr = lambda p: (p.insert({"k": 1}, 1), p.restart(["n"], 10, 2))
        eq({"k": 1, "n": 22}, ctr, lambda p, t: p.increment(["n"], 5, t), lambda p, t: p.increment(["n"], 7, t))
        eq({"k": 1, "n": 105}, ctr, lambda p, t: p.restart(["n"], 100, t), lambda p, t: p.increment(["n"], 5, t))
        eq({"k": 1, "n": 5}, ctr, lambda p, t: p.unset(["n"], t), lambda p, t: p.increment(["n"], 5, t))
        eq(None, one({"c": "red", "k": 1}), lambda p, t: p.delete(t), lambda p, t: p.set(["c"], "blue", t))
        eq({"c": "new"}, one({"c": "red", "k": 1}), lambda p, t: p.delete(t), lambda p, t: (p.delete(t), p.insert({"c": "new"}, t + 1)))
        none = lambda p: None
        eq({"a": 1, "b": 2, "x": later}, none, lambda p, t: p.insert({"a": 1, "x": "A"}, t), lambda p, t: p.insert({"b": 2, "x": "B"}, t))
        count = lambda a, b: (lambda p: None, lambda p, t: (p.insert({"k": 1}, t), p.increment(["n"], a, t)),
                              lambda p, t: (p.insert({"k": 1}, t), p.increment(["n"], b, t)))
        for edit, want in ((lambda p: p.increment(["n"], 6, 300), 14), (lambda p: p.restart(["n"], 100, 300), 100),
                           (lambda p: p.unset(["n"], 300), None)):
            p = pair(*count(3, 5), later)[1]            # two lives, one counter
            far = copy.deepcopy(p.doc)
            edit(p)
            assert show(p.doc).get("n") == want, (show(p.doc), want, later)
            p.increment(["n"], 2, 301)                  # whichever of the two lives it goes to
            assert show(p.doc)["n"] == (want or 0) + 2, (show(p.doc), want, later)
            q = Peer("B")                               # concurrently, a peer that saw as much
            q.doc, q.n = far, max(n for a, n in far.vv.items() if a == "B")
            q.increment(["n"], 7, 299)
            p.receive(q)
            assert show(p.doc)["n"] == (want or 0) + 9, (show(p.doc), want, later)
        eq({"v": "B", "p": 1, "q": 1}, none, lambda p, t: p.insert_initial({"v": "A", "p": 1}), lambda p, t: p.insert_initial({"v": "B", "q": 1}))
        eq({"v": "B"}, none, lambda p, t: p.insert_initial({"v": "A"}), lambda p, t: p.insert({"v": "B"}, t))
    print("the table of docs/merging.md holds, whichever side is later")


def replay():
    """One JSON object a line: {"peer": "A", "op": "insert|initial|set|unset|increment|restart|delete|receive",
    "path": [..], "value": .., "from": "B", "now": 7}. A line {"end": [paths]} ends a history; the next line begins
    another with no peers. When the input ends, prints one line a history:
    {"peer": {"document": visible document or null, "conflicts": [conflicts at each path]}}."""
    ps, results = {}, []                             # printed last, so that the writer never waits for its reader
    for line in sys.stdin:
        o = json.loads(line)
        if "end" in o:
            results.append({a: {"document": show(p.doc), "conflicts": [conflicts(p.doc, path) for path in o["end"]]}
                            for a, p in ps.items()})
            ps = {}
            HLC.clear()
            continue
        p = ps.setdefault(o["peer"], Peer(o["peer"]))
        t = o.get("now", p.clock + 1)
        {"insert": lambda: p.insert(o["value"], t), "initial": lambda: p.insert_initial(o["value"]),
         "set": lambda: p.set(o["path"], o["value"], t), "unset": lambda: p.unset(o["path"], t),
         "increment": lambda: p.increment(o["path"], o["value"], t), "restart": lambda: p.restart(o["path"], o["value"], t),
         "delete": lambda: p.delete(t), "receive": lambda: p.receive(ps.setdefault(o["from"], Peer(o["from"])))}[o["op"]]()
    for result in results:
        print(json.dumps(result, sort_keys=True))


if __name__ == "__main__":
    if sys.argv[1:] == ["replay"]:
        replay()
    else:
        table()
        check(int(sys.argv[1]) if len(sys.argv) > 1 else 3000)
