"""ZNN on Dask: fast training and inference of 3D convolutional networks on CPUs."""
