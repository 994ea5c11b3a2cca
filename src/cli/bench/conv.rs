//! Convolutions of images whose channels lie together, and their gradients: layers of ResNets for CIFAR and for ImageNet,
//! depthwise ones, and those of LeNet-5.

use niwaki_kernels::nhwc::conv::{Conv, Convolution, Epilogue, Old, Window};
use niwaki_kernels::simd::Path;

use super::case::Case;
use super::numbers::normal;

/// A name and the sizes `[batch, channels in, channels out, height = width, kernel, stride, padding, groups]`.
const LAYERS: [(&str, [usize; 8]); 13] = [
    ("3_16_at32", [128, 3, 16, 32, 3, 1, 1, 1]),
    ("16_16_at32", [128, 16, 16, 32, 3, 1, 1, 1]),
    ("16_32_s2", [128, 16, 32, 32, 3, 2, 1, 1]),
    ("32_32_at16", [128, 32, 32, 16, 3, 1, 1, 1]),
    ("64_64_at8", [128, 64, 64, 8, 3, 1, 1, 1]),
    ("64_64_at56", [8, 64, 64, 56, 3, 1, 1, 1]),
    ("128_128_at28", [8, 128, 128, 28, 3, 1, 1, 1]),
    ("256_256_at14", [8, 256, 256, 14, 3, 1, 1, 1]),
    ("1x1_64_256_at28", [8, 64, 256, 28, 1, 1, 0, 1]),
    ("dw32_at16", [128, 32, 32, 16, 3, 1, 1, 32]),
    ("dw64_at56", [8, 64, 64, 56, 3, 1, 1, 64]),
    ("lenet1", [128, 1, 6, 28, 5, 1, 2, 1]),
    ("lenet2", [128, 6, 16, 14, 5, 1, 0, 1]),
];

/// `conv_fwd_NAME`: the output. `conv_fwd_bwd_NAME`: the output, the gradient at the weight, and the gradient at the input;
/// the last not of a network's first layer, with at most three channels. The weight is given as a network has it, so laying
/// it out counts.
pub fn cases() -> Vec<Case> {
    let of_layer = |(name, sizes): (&str, [usize; 8])| {
        let conv = conv(sizes);
        let forward = Case::new(format!("conv_fwd_{name}"), move || {
            let mut layer = Layer::new(&conv);
            Ok(move || layer.forward())
        });
        let both = Case::new(format!("conv_fwd_bwd_{name}"), move || {
            let mut layer = Layer::new(&conv);
            Ok(move || {
                layer.forward();
                layer.backward();
            })
        });
        [forward, both].map(|case| case.of(conv.batch, "samples"))
    };
    LAYERS.into_iter().flat_map(of_layer).collect()
}

fn conv([batch, channels_in, channels_out, size, kernel, stride, padding, groups]: [usize; 8]) -> Conv {
    let window = Window { kernel: [kernel; 2], stride: [stride; 2], padding: [padding; 4], dilation: [1; 2] };
    Conv { batch, image: [size; 2], channels_in, channels_out, window, groups, path: Path::chosen() }
}

/// A convolution with all its memory.
struct Layer {
    kernel: Convolution,
    x: Vec<f32>,
    weight: Vec<f32>,
    packed: Vec<f32>,
    y: Vec<f32>,
    dy: Vec<f32>,
    /// None where nobody asks for that gradient.
    dx: Option<Vec<f32>>,
    transposed: Vec<f32>,
    dw: Vec<f32>,
    scratch: Vec<f32>,
}

impl Layer {
    fn new(conv: &Conv) -> Self {
        let kernel = Convolution::new(conv);
        let images = |[height, width]: [usize; 2], channels: usize| conv.batch * height * width * channels;
        let (x, y) = (images(conv.image, conv.channels_in), images(conv.places(), conv.channels_out));
        Self {
            x: normal(x, 1),
            weight: normal(conv.weight_len(), 2),
            packed: vec![0.0; kernel.packed_len()],
            y: vec![0.0; y],
            dy: normal(y, 3),
            dx: (conv.channels_in > 3).then(|| vec![0.0; x]),
            transposed: vec![0.0; kernel.packed_transposed_len()],
            dw: vec![0.0; conv.weight_len()],
            scratch: vec![0.0; kernel.scratch_len()],
            kernel,
        }
    }

    fn forward(&mut self) {
        self.kernel.pack(&self.weight, &mut self.packed);
        self.kernel.forward(&self.x, &self.packed, &mut self.y, Epilogue::default());
    }

    fn backward(&mut self) {
        let Self { kernel, x, weight, dy, dx, transposed, dw, scratch, .. } = self;
        match dx {
            Some(dx) => {
                kernel.pack_transposed(weight, transposed);
                kernel.both_gradients(x, dy, (transposed, dx, Old::Dropped), dw, scratch);
            }
            None => kernel.weight_gradient(x, dy, dw, scratch),
        }
    }
}
