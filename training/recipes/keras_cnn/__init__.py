"""The report "Skin cancer classification using Keras": networks of growing depth from scratch."""
