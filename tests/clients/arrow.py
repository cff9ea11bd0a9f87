"""Makes src/fake_omni/orders.arrow, the table that the pretended Omni answers queries with.

    target/clients/sdk/bin/python tests/clients/arrow.py src/fake_omni/orders.arrow
"""

import sys

import pyarrow as pa

table = pa.table(
    {
        "orders.status": pa.array(["complete", "pending", "returned"]),
        "orders.count": pa.array([1204, 37, 12], pa.int64()),
        "orders.total": pa.array([18250.5, 410.25, None], pa.float64()),
    }
)
with pa.OSFile(sys.argv[1], "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
    stream.write_table(table)
