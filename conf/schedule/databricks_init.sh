#!/bin/sh
# Unpacks the environment of `make package` on the driver and on each worker of a Databricks cluster.
set -eu
mkdir -p /opt/din-pipeline
tar -xzf /Volumes/main/din/release/environment.tar.gz -C /opt/din-pipeline
