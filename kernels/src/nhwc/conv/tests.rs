//! The convolution against its definition, on every path.

use proptest::prelude::*;

use super::*;
use crate::testing::numbers;

/// The output by the definition, in `f64`.
fn naive(conv: &Conv, x: &[f64], w: &[f64]) -> Vec<f64> {
    let Window { kernel: [kh, kw], stride, padding, dilation } = conv.window;
    let ([oh, ow], [h, width]) = (conv.places(), conv.image);
    let (inner, outer) = (conv.group_in(), conv.group_out());
    let pixel = |axis: usize, place: usize, tap: usize| {
        let at = (place * stride[axis] + tap * dilation[axis]).checked_sub(padding[axis])?;
        (at < conv.image[axis]).then_some(at)
    };
    let mut y = Vec::new();
    for n in 0..conv.batch {
        for (oy, ox) in (0..oh).flat_map(|oy| (0..ow).map(move |ox| (oy, ox))) {
            for out in 0..conv.channels_out {
                let mut sum = 0.0;
                for (ky, kx) in (0..kh).flat_map(|ky| (0..kw).map(move |kx| (ky, kx))) {
                    let Some((iy, ix)) = pixel(0, oy, ky).zip(pixel(1, ox, kx)) else { continue };
                    for c in 0..inner {
                        let at = ((n * h + iy) * width + ix) * conv.channels_in + out / outer * inner + c;
                        sum += x[at] * w[((out * inner + c) * kh + ky) * kw + kx];
                    }
                }
                y.push(sum);
            }
        }
    }
    y
}

/// The derivative of `sum(y * dy)` by each of the numbers that go in: `y` is linear in `x` and in `w`, so a step of 1 gives
/// it exactly.
fn naive_gradient(at: &[f64], dy: &[f32], y: impl Fn(&[f64]) -> Vec<f64>) -> Vec<f64> {
    let loss = |at: &[f64]| -> f64 { y(at).iter().zip(dy).map(|(y, dy)| y * f64::from(*dy)).sum() };
    let (before, mut at) = (loss(at), at.to_vec());
    (0..at.len())
        .map(|i| {
            at[i] += 1.0;
            let after = loss(&at);
            at[i] -= 1.0;
            after - before
        })
        .collect()
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|v| f64::from(*v)).collect()
}

fn assert_close(found: &[f32], expected: &[f64], what: &str) {
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(1.0f64, |m, v| m.max(v.abs()));
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!((f64::from(*found) - expected).abs() <= 1e-5 * largest, "{what} at {i}: {found}, not {expected}");
    }
}

struct Data {
    x: Vec<f32>,
    w: Vec<f32>,
    dy: Vec<f32>,
}

impl Data {
    fn of(conv: &Conv) -> Self {
        let [oh, ow] = conv.places();
        Self {
            x: numbers(conv.batch * conv.image[0] * conv.image[1] * conv.channels_in, 1),
            w: numbers(conv.weight_len(), 2),
            dy: numbers(conv.batch * oh * ow * conv.channels_out, 3),
        }
    }
}

fn forward_of(conv: &Conv, data: &Data, epilogue: Epilogue<'_>) -> Vec<f32> {
    let kernel = Convolution::new(conv);
    let mut packed = vec![f32::NAN; kernel.packed_len()];
    kernel.pack(&data.w, &mut packed);
    let mut y = vec![f32::NAN; data.dy.len()];
    kernel.forward(&data.x, &packed, &mut y, epilogue);
    y
}

fn input_gradient_of(conv: &Conv, data: &Data, mut dx: Vec<f32>, old: Old) -> Vec<f32> {
    let kernel = Convolution::new(conv);
    let mut packed = vec![f32::NAN; kernel.packed_transposed_len()];
    kernel.pack_transposed(&data.w, &mut packed);
    kernel.input_gradient(&data.dy, &packed, &mut dx, old);
    dx
}

fn weight_gradient_of(conv: &Conv, data: &Data) -> Vec<f32> {
    let kernel = Convolution::new(conv);
    let (mut dw, mut scratch) = (vec![f32::NAN; data.w.len()], vec![f32::NAN; kernel.scratch_len()]);
    kernel.weight_gradient(&data.x, &data.dy, &mut dw, &mut scratch);
    dw
}

/// Both gradients as they are computed image by image; the one at the input is added to `dx`.
fn gradients_of(conv: &Conv, data: &Data, mut dx: Vec<f32>) -> [Vec<f32>; 2] {
    let kernel = Convolution::new(conv);
    let mut packed = vec![f32::NAN; kernel.packed_transposed_len()];
    kernel.pack_transposed(&data.w, &mut packed);
    let (mut dw, mut scratch) = (vec![f32::NAN; data.w.len()], vec![f32::NAN; kernel.scratch_len()]);
    let image = |number: usize, dy: &mut [f32]| dy.copy_from_slice(&data.dy[number * dy.len()..][..dy.len()]);
    kernel.gradients(&data.x, &image, Some((&packed, &mut dx, Old::Added)), &mut dw, &mut scratch);
    [dx, dw]
}

/// Both gradients at once; the one at the input is added to `dx`.
fn both_gradients_of(conv: &Conv, data: &Data, mut dx: Vec<f32>) -> [Vec<f32>; 2] {
    let kernel = Convolution::new(conv);
    let mut packed = vec![f32::NAN; kernel.packed_transposed_len()];
    kernel.pack_transposed(&data.w, &mut packed);
    let (mut dw, mut scratch) = (vec![f32::NAN; data.w.len()], vec![f32::NAN; kernel.scratch_len()]);
    kernel.both_gradients(&data.x, &data.dy, (&packed, &mut dx, Old::Added), &mut dw, &mut scratch);
    [dx, dw]
}

fn check(conv: &Conv) {
    let data = Data::of(conv);
    let (x, w) = (wide(&data.x), wide(&data.w));
    let y = naive(conv, &x, &w);
    assert_close(&forward_of(conv, &data, Epilogue::default()), &y, "output");

    let (bias, residual) = (numbers(conv.channels_out, 4), numbers(y.len(), 5));
    let epilogue = Epilogue { bias: Some(&bias), residual: Some(&residual), relu: true };
    let ended: Vec<f64> =
        (0..y.len()).map(|i| (y[i] + f64::from(bias[i % bias.len()]) + f64::from(residual[i])).max(0.0)).collect();
    assert_close(&forward_of(conv, &data, epilogue), &ended, "output with an epilogue");

    let dx = naive_gradient(&x, &data.dy, |x| naive(conv, x, &w));
    let garbage = vec![f32::NAN; x.len()];
    assert_close(&input_gradient_of(conv, &data, garbage, Old::Dropped), &dx, "input gradient");
    let before = numbers(x.len(), 6);
    let added: Vec<f64> = dx.iter().zip(&before).map(|(dx, before)| dx + f64::from(*before)).collect();
    assert_close(&input_gradient_of(conv, &data, before.clone(), Old::Added), &added, "added input gradient");

    let dw = naive_gradient(&w, &data.dy, |w| naive(conv, &x, w));
    assert_close(&weight_gradient_of(conv, &data), &dw, "weight gradient");
    let found = both_gradients_of(conv, &data, before.clone());
    assert_close(&found[0], &added, "added input gradient beside that of the weight");
    assert_close(&found[1], &dw, "weight gradient beside that of the input");
    if Convolution::new(conv).goes_by_images() {
        let found = gradients_of(conv, &data, before);
        assert_close(&found[0], &added, "added input gradient of an image at a time");
        assert_close(&found[1], &dw, "weight gradient of an image at a time");
    }
}

#[test]
fn slabs_are_told_once_they_are_written() {
    for (channels, image) in [([20, 20], 70), ([40, 33], 70), ([40, 33], 9)] {
        let conv = plain(5, channels, image, 3, Path::chosen());
        let (data, kernel) = (Data::of(&conv), Convolution::new(&conv));
        let mut packed = vec![0.0; kernel.packed_len()];
        kernel.pack(&data.w, &mut packed);
        let mut y = vec![f32::NAN; data.dy.len()];
        let told = std::sync::Mutex::new(vec![vec![]; kernel.slabs()]);
        assert!(kernel.slabs() > 5 || image < 70);
        let after = |slab: usize, rows: &[f32]| told.lock().unwrap()[slab].extend_from_slice(rows);
        kernel.forward_then(&data.x, &packed, &mut y, Epilogue::default(), &after);
        assert!(told.into_inner().unwrap().concat() == y && !y.iter().any(|y| y.is_nan()));
    }
}

fn paths() -> impl Strategy<Value = Path> {
    prop::sample::select(Path::ALL.into_iter().filter(|path| path.is_available()).collect::<Vec<_>>())
}

prop_compose! {
    fn convs()(
        kernel in [1usize..=5, 1usize..=5], stride in [1usize..=3, 1usize..=3], padding in [0usize..=3, 0usize..=3, 0usize..=3, 0usize..=3],
        dilation in [1usize..=2, 1usize..=2], room in [0usize..=4, 0usize..=9], groups in 1usize..=3,
        inner in 1usize..=18, outer in 1usize..=18, batch in 1usize..=2, path in paths(), plain in 0usize..5,
    ) -> Conv {
        // Most networks have square kernels, stride and dilation 1, and one group, and these have ways of their own.
        let (kernel, stride, dilation, groups) = match plain {
            0 => ([3; 2], [1; 2], [1; 2], 1),
            1 => ([kernel[0]; 2], [1; 2], [1; 2], 1),
            2 => (kernel, stride, [1; 2], 1),
            3 => (kernel, stride, dilation, inner),
            _ => (kernel, stride, dilation, groups),
        };
        let least = |axis: usize| (dilation[axis] * (kernel[axis] - 1) + 1).saturating_sub(padding[axis] + padding[axis + 2]).max(1);
        let image = [least(0) + room[0], least(1) + room[1]];
        let window = Window { kernel, stride, padding, dilation };
        let (inner, outer) = match plain {
            3 => (1, 1),
            _ if groups > 1 => (inner.div_ceil(4), outer.div_ceil(4)),
            _ => (inner, outer),
        };
        Conv { batch, image, channels_in: groups * inner, channels_out: groups * outer, window, groups, path }
    }
}

prop_compose! {
    /// Those for which there is Winograd's way.
    fn small_kernels_of_many_channels()(
        batch in 1usize..=5, image in [4usize..=11, 4usize..=19], inner in 32usize..=50, outer in 32usize..=70,
        padding in [0usize..=2, 0usize..=2, 0usize..=2, 0usize..=2], path in paths(),
    ) -> Conv {
        let window = Window { kernel: [3; 2], stride: [1; 2], padding, dilation: [1; 2] };
        Conv { batch, image, channels_in: inner, channels_out: outer, window, groups: 1, path }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn winograds_way_gives_what_the_definition_does(conv in small_kernels_of_many_channels()) {
        let kernel = Convolution::new(&conv);
        prop_assume!(kernel.forward.winograd.is_some() || kernel.input_gradient.winograd.is_some());
        let data = Data::of(&conv);
        let y = naive(&conv, &wide(&data.x), &wide(&data.w));
        assert_close(&forward_of(&conv, &data, Epilogue::default()), &y, "output");
        let (bias, residual) = (numbers(conv.channels_out, 4), numbers(y.len(), 5));
        let epilogue = Epilogue { bias: Some(&bias), residual: Some(&residual), relu: true };
        let ended = |(i, y): (usize, &f64)| (y + f64::from(bias[i % bias.len()]) + f64::from(residual[i])).max(0.0);
        let ended: Vec<f64> = y.iter().enumerate().map(ended).collect();
        assert_close(&forward_of(&conv, &data, epilogue), &ended, "output with an epilogue");

        // The gradient at the input is a convolution, too, with the kernel turned.
        let (inner, outer) = (conv.channels_in, conv.channels_out);
        let places = (0..inner).flat_map(|i| (0..outer).flat_map(move |o| (0..9).map(move |tap| (o * inner + i) * 9 + 8 - tap)));
        let turned: Vec<f64> = places.map(|place| f64::from(data.w[place])).collect();
        let window = Window { padding: conv.window.padding.map(|side| 2 - side), ..conv.window };
        let back = Conv { image: conv.places(), channels_in: outer, channels_out: inner, window, ..conv };
        let dx = naive(&back, &wide(&data.dy), &turned);
        assert_close(&input_gradient_of(&conv, &data, vec![f32::NAN; dx.len()], Old::Dropped), &dx, "input gradient");
        let before = numbers(dx.len(), 6);
        let added: Vec<f64> = dx.iter().zip(&before).map(|(dx, before)| dx + f64::from(*before)).collect();
        assert_close(&both_gradients_of(&conv, &data, before.clone())[0], &added, "added input gradient");
        if kernel.goes_by_images() {
            assert_close(&gradients_of(&conv, &data, before)[0], &added, "added input gradient of an image at a time");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn results_and_gradients_are_those_of_the_definition(conv in convs()) {
        check(&conv);
    }
}

#[test]
fn images_that_are_computed_in_slabs_give_the_sums_of_the_definition() {
    // Sums are linear in each factor: one number of the gradients, in a random direction, tells.
    let window = Window { kernel: [3; 2], stride: [2, 1], padding: [1, 2, 0, 1], dilation: [1; 2] };
    for path in Path::ALL.into_iter().filter(|path| path.is_available()) {
        for (groups, channels) in [(1, 40), (40, 40)] {
            let conv =
                Conv { batch: 2, image: [61, 40], channels_in: channels, channels_out: channels, window, groups, path };
            let data = Data::of(&conv);
            let (x, w) = (wide(&data.x), wide(&data.w));
            let y = naive(&conv, &x, &w);
            assert_close(&forward_of(&conv, &data, Epilogue::default()), &y, "output");
            let expected: f64 = y.iter().zip(&data.dy).map(|(y, dy)| y * f64::from(*dy)).sum();
            let dx = input_gradient_of(&conv, &data, data.x.clone(), Old::Dropped);
            for (gradient, at) in [(dx, &x), (weight_gradient_of(&conv, &data), &w)] {
                let slope: f64 = gradient.iter().zip(at).map(|(d, at)| f64::from(*d) * at).sum();
                assert!((slope - expected).abs() <= 1e-4 * expected.abs().max(1e3), "{conv:?}: {slope} {expected}");
            }
        }
    }
}

fn plain(batch: usize, channels: [usize; 2], image: usize, kernel: usize, path: Path) -> Conv {
    let padding = [kernel / 2; 4];
    let window = Window { kernel: [kernel; 2], stride: [1; 2], padding, dilation: [1; 2] };
    Conv { batch, image: [image; 2], channels_in: channels[0], channels_out: channels[1], window, groups: 1, path }
}

#[test]
fn kernels_of_every_size_have_weight_gradients_of_the_definition() {
    // The channels that come out fill one to seven vectors: tiles of every width, for one, three and five runs.
    for path in Path::ALL.into_iter().filter(|path| path.is_available()) {
        for (vectors, kernel) in (1..=7).flat_map(|vectors| [1, 2, 3, 5].map(|kernel| (vectors, kernel))) {
            let conv = plain(1, [2, vectors * path.lanes() - 1], 4, kernel, path);
            let data = Data::of(&conv);
            let (x, w) = (wide(&data.x), wide(&data.w));
            let dw = naive_gradient(&w, &data.dy, |w| naive(&conv, &x, w));
            assert_close(&weight_gradient_of(&conv, &data), &dw, &format!("{conv:?}: weight gradient"));
        }
    }
}

#[test]
fn many_channels_give_the_sums_of_the_definition() {
    // Weights in several panels and strips, and several images at once, of which some are left over: sums are linear, so
    // one number of each gradient in a random direction tells.
    for path in Path::ALL.into_iter().filter(|path| path.is_available()) {
        for conv in [plain(2, [150, 70], 3, 3, path), plain(37, [4, 70], 8, 3, path), plain(37, [40, 70], 8, 1, path)] {
            let data = Data::of(&conv);
            let (x, w) = (wide(&data.x), wide(&data.w));
            assert_close(&forward_of(&conv, &data, Epilogue::default()), &naive(&conv, &x, &w), "output");
            let direction = wide(&numbers(w.len(), 8));
            let y = naive(&conv, &x, &direction);
            let expected: f64 = y.iter().zip(&data.dy).map(|(y, dy)| y * f64::from(*dy)).sum();
            let mut found = vec![weight_gradient_of(&conv, &data)];
            if Convolution::new(&conv).goes_by_images() {
                let both =
                    [gradients_of(&conv, &data, data.x.clone()), both_gradients_of(&conv, &data, data.x.clone())];
                assert_eq!(both[0][0], both[1][0]);
                found.extend(both.map(|[_, dw]| dw));
            }
            for dw in found {
                let slope: f64 = dw.iter().zip(&direction).map(|(dw, d)| f64::from(*dw) * d).sum();
                assert!((slope - expected).abs() <= 1e-4 * expected.abs().max(100.0), "{conv:?}: {slope} {expected}");
            }
        }
    }
}

#[test]
fn the_bits_do_not_depend_on_the_number_of_threads() {
    let run = |threads: usize, conv: &Conv| {
        let data = Data::of(conv);
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(|| {
            let y = forward_of(conv, &data, Epilogue::default());
            let dx = input_gradient_of(conv, &data, data.x.clone(), Old::Dropped);
            [y, dx, weight_gradient_of(conv, &data)]
        })
    };
    for path in Path::ALL.into_iter().filter(|path| path.is_available()) {
        let small = [plain(37, [3, 5], 9, 3, path), plain(1, [40, 70], 7, 3, path), plain(3, [130, 130], 2, 3, path)];
        for conv in small.into_iter().chain([plain(37, [4, 70], 8, 3, path), plain(9, [40, 70], 9, 3, path)]) {
            let one = run(1, &conv);
            assert!(one == run(2, &conv) && one == run(3, &conv), "{conv:?}");
        }
    }
}
