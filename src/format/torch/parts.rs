//! Functions that a file has where it needs them, for what PyTorch has none for.

/// A function of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    /// Values that pass through a format of fewer bits.
    Passed,
    /// The mean of each window with any padding.
    AveragePool,
    /// Padding by the values of the border.
    Around,
    /// Slices at coordinates.
    GatherNd,
    /// One direction after the other, step by step.
    Recurrent,
    /// The layer with cells.
    Lstm,
    /// The layer without.
    Gru,
}

impl Part {
    /// Its text.
    pub(super) fn text(self) -> &'static str {
        match self {
            Part::Passed => PASSED,
            Part::AveragePool => AVERAGE_POOL,
            Part::Around => AROUND,
            Part::GatherNd => GATHER_ND,
            Part::Recurrent => RECURRENT,
            Part::Lstm => LSTM,
            Part::Gru => GRU,
        }
    }
}

const PASSED: &str = r#"def passed(dtype, *values):
    """Values as they are in a format of fewer bits; sums within a layer are taken in 32."""
    values = tuple(x.to(dtype).to(x.dtype) if x.is_floating_point() else x for x in values)
    return values if len(values) > 1 else values[0]
"#;

const AVERAGE_POOL: &str = r#"def average_pool(x, kernel, stride, dilation, around, counted):
    """The mean of each window; of the padding (left, right, top, bottom), so much counts as zeros."""

    def sums(x):
        taps = x.new_ones(x.shape[1], 1, *kernel)
        return F.conv2d(x, taps, stride=stride, dilation=dilation, groups=x.shape[1])

    rest = tuple(a - c for a, c in zip(around, counted))
    counts = F.pad(F.pad(torch.ones_like(x[:1, :1]), counted, value=1.0), rest)
    return sums(F.pad(x, around)) / sums(counts)
"#;

const AROUND: &str = r#"def around(x, axis, before, after, way):
    """Padding by values of x: those mirrored at the border, the border's, or those from the other end."""
    size = x.shape[axis]
    places = torch.arange(-before, size + after, device=x.device)
    if way == "edge":
        places = places.clamp(0, size - 1)
    elif way == "wrap":
        places = places % size
    else:
        there_and_back = max(2 * (size - 1), 1)
        places = places % there_and_back
        places = torch.minimum(places, there_and_back - places)
    return x.index_select(axis, places)
"#;

const GATHER_ND: &str = r#"def gather_nd(x, places, shared):
    """The slices at coordinates, the last axis of places; x and places share the first axes."""
    own = [
        torch.arange(x.shape[axis], device=x.device).reshape(-1, *[1] * (places.dim() - 2 - axis)) for axis in range(shared)
    ]
    return x[(*own, *places.long().unbind(-1))]
"#;

const RECURRENT: &str = r#"def recurrent(step, gates, backwards, state, lengths):
    """All states of one direction and the last; after its length a sample's states are 0, and the last one stays."""
    steps = range(gates.shape[0])
    states = [None] * len(steps)
    for t in reversed(steps) if backwards else steps:
        new = step(gates[t], *state)
        states[t] = new[0]
        if lengths is not None:
            within = (t < lengths).unsqueeze(1)
            states[t] = torch.where(within, new[0], 0.0)
            new = tuple(torch.where(within, a, b) for a, b in zip(new, state))
        state = new
    return torch.stack(states), state
"#;

const LSTM: &str = r#"def lstm(x, w_ih, w_hh, bias, backwards, lengths=None, state=None, peephole=None):
    """An LSTM layer; weights are [directions, 4 * hidden, ...] with the gates in the order input, output, forget, cell."""
    directions, _, hidden = w_hh.shape
    if state is None:
        state = (x.new_zeros(directions, x.shape[1], hidden),) * 2
    if bias is None:
        bias = x.new_zeros(directions, 8 * hidden)
    if peephole is None:
        peephole = x.new_zeros(directions, 3 * hidden)
    results = []
    for d in range(directions):
        (of_input, of_state), (p_i, p_o, p_f) = bias[d].chunk(2), peephole[d].chunk(3)

        def step(gates, h, c, d=d, of_state=of_state, p_i=p_i, p_o=p_o, p_f=p_f):
            i, o, f, g = (gates + F.linear(h, w_hh[d], of_state)).chunk(4, 1)
            i, f = torch.sigmoid(i + p_i * c), torch.sigmoid(f + p_f * c)
            c = f * c + i * torch.tanh(g)
            return torch.sigmoid(o + p_o * c) * torch.tanh(c), c

        first = (state[0][d], state[1][d])
        results.append(recurrent(step, F.linear(x, w_ih[d], of_input), backwards[d], first, lengths))
    states, last = zip(*results)
    h, c = zip(*last)
    return torch.stack(states, 1), torch.stack(h), torch.stack(c)
"#;

const GRU: &str = r#"def gru(x, w_ih, w_hh, bias, backwards, lengths=None, state=None, reset_after=True):
    """A GRU layer; weights are [directions, 3 * hidden, ...] with the gates in the order update, reset, new."""
    directions, _, hidden = w_hh.shape
    if state is None:
        state = (x.new_zeros(directions, x.shape[1], hidden),)
    if bias is None:
        bias = x.new_zeros(directions, 6 * hidden)
    results = []
    for d in range(directions):
        of_input, of_state = bias[d].chunk(2)

        def step(gates, h, d=d, of_state=of_state):
            (z, r, n), w, b = gates.chunk(3, 1), w_hh[d].chunk(3), of_state.chunk(3)
            z, r = torch.sigmoid(z + F.linear(h, w[0], b[0])), torch.sigmoid(r + F.linear(h, w[1], b[1]))
            n = torch.tanh(n + (r * F.linear(h, w[2], b[2]) if reset_after else F.linear(r * h, w[2], b[2])))
            return ((1 - z) * n + z * h,)

        results.append(recurrent(step, F.linear(x, w_ih[d], of_input), backwards[d], (state[0][d],), lengths))
    states, last = zip(*results)
    return torch.stack(states, 1), torch.stack([h for h, in last])
"#;
