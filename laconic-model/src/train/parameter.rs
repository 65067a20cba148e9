//! Tensors of the network under training, and the linear layers made of them.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CudaStorage, CustomOp1, DType, Layout, MetalStorage, Shape};
use candle_core::{Result, Storage, Tensor, Var};

use super::dropout::Dropout;

/// A tensor of the checkpoint: trained, or left as it is.
#[derive(Clone, Debug)]
pub(super) enum Parameter {
    /// The master copy, in the type of gradients.
    Trained(Var),
    /// In the type it is computed with.
    Frozen(Tensor),
}

impl Parameter {
    /// The tensor in type `dtype`, with its gradient wanted if `track` is set.
    pub(super) fn tensor(&self, dtype: DType, track: bool) -> Result<Tensor> {
        match self {
            Self::Frozen(tensor) => tensor.to_dtype(dtype),
            Self::Trained(var) if track => var.as_tensor().to_dtype(dtype),
            Self::Trained(var) => var.as_detached_tensor().to_dtype(dtype),
        }
    }

    pub(super) fn var(&self) -> Option<&Var> {
        match self {
            Self::Trained(var) => Some(var),
            Self::Frozen(_) => None,
        }
    }

    /// What is stored of it.
    pub(super) fn value(&self) -> Tensor {
        match self {
            Self::Trained(var) => var.as_detached_tensor(),
            Self::Frozen(tensor) => tensor.clone(),
        }
    }
}

/// What a forward pass is for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pass {
    /// Whether gradients will be asked for.
    pub(super) track: bool,
    /// Key of the random numbers of dropout; none outside training.
    pub(super) dropout: Option<u64>,
    /// Type of matrix products.
    pub(super) dtype: DType,
}

/// A linear layer without bias, outputs × inputs, perhaps with an adapter.
#[derive(Debug)]
pub(super) struct Linear {
    pub(super) weight: Parameter,
    pub(super) adapter: Option<Adapter>,
}

/// y = scale · B·A·x beside a frozen W·x (Hu et al. 2021, LoRA, equation 3).
#[derive(Debug)]
pub(super) struct Adapter {
    /// Rank × inputs, starts random.
    pub(super) a: Var,
    /// Outputs × rank, starts at zero, so that training starts from the checkpoint.
    pub(super) b: Var,
    pub(super) scale: f64,
    pub(super) dropout: Dropout,
}

impl Linear {
    /// Rows × inputs to rows × outputs.
    pub(super) fn forward(&self, x: &Tensor, pass: Pass) -> Result<Tensor> {
        let weight = self.weight.tensor(pass.dtype, pass.track)?;
        let y = match self.weight {
            Parameter::Frozen(_) if pass.track => x.contiguous()?.apply_op1(Frozen(weight))?,
            _ => x.matmul(&weight.t()?)?,
        };
        let Some(adapter) = &self.adapter else {
            return Ok(y);
        };
        y + adapter.forward(x, pass)?
    }

    /// The weight with its adapter merged in.
    pub(super) fn merged(&self) -> Result<Tensor> {
        let weight = self.weight.value().to_dtype(DType::F32)?;
        match &self.adapter {
            None => Ok(weight),
            Some(adapter) => {
                let (a, b) = (
                    adapter.a.as_detached_tensor(),
                    adapter.b.as_detached_tensor(),
                );
                weight + (b.matmul(&a)? * adapter.scale)?.to_dtype(DType::F32)?
            }
        }
    }
}

impl Adapter {
    fn forward(&self, x: &Tensor, pass: Pass) -> Result<Tensor> {
        let tensor = |var: &Var| match pass.track {
            true => var.as_tensor().to_dtype(pass.dtype),
            false => var.as_detached_tensor().to_dtype(pass.dtype),
        };
        let x = match pass.dropout {
            Some(key) => self.dropout.apply(x, key)?,
            None => x.clone(),
        };
        let inner = x.matmul(&tensor(&self.a)?.t()?)?;
        inner.matmul(&tensor(&self.b)?.t()?)? * self.scale
    }
}

/// A product with a weight that is not trained. candle would compute the weight's gradient as
/// well, which takes as long as the input's, and as much memory as the weight.
struct Frozen(Tensor);

/// Of a product: its batch, rows, outputs and inputs, as candle counts them, the layout of the
/// transposed weight, and the shape of what comes out.
struct Product {
    sizes: (usize, usize, usize, usize),
    weight: Layout,
    shape: Shape,
}

impl Product {
    fn of(x: &Layout, weight: &Layout) -> Result<Self> {
        let (rows, inputs) = x.shape().dims2()?;
        let (outputs, _) = weight.shape().dims2()?;
        Ok(Self {
            sizes: (1, rows, outputs, inputs),
            weight: weight.transpose(0, 1)?,
            shape: Shape::from((rows, outputs)),
        })
    }
}

impl CustomOp1 for Frozen {
    fn name(&self) -> &'static str {
        "frozen-linear"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (storage, weight) = self.0.storage_and_layout();
        let product = Product::of(layout, weight)?;
        match &*storage {
            Storage::Cpu(w) => {
                let y = x.matmul(w, product.sizes, layout, &product.weight)?;
                Ok((y, product.shape))
            }
            _ => candle_core::bail!("the weight is on another device than its input"),
        }
    }

    fn cuda_fwd(&self, x: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        let (storage, weight) = self.0.storage_and_layout();
        let product = Product::of(layout, weight)?;
        match &*storage {
            Storage::Cuda(w) => {
                let y = x.matmul(w, product.sizes, layout, &product.weight)?;
                Ok((y, product.shape))
            }
            _ => candle_core::bail!("the weight is on another device than its input"),
        }
    }

    fn metal_fwd(&self, x: &MetalStorage, layout: &Layout) -> Result<(MetalStorage, Shape)> {
        let (storage, weight) = self.0.storage_and_layout();
        let product = Product::of(layout, weight)?;
        match &*storage {
            Storage::Metal(w) => {
                let y = x.matmul(w, product.sizes, layout, &product.weight)?;
                Ok((y, product.shape))
            }
            _ => candle_core::bail!("the weight is on another device than its input"),
        }
    }

    fn bwd(&self, _x: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(grad.contiguous()?.matmul(&self.0)?))
    }
}
