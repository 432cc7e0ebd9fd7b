"""Tests of fastinit."""
