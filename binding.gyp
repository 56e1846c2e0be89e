# Bridges node-gyp (and node-gyp-build's fallback) to the build by cmake-js. In git only: a published binding.gyp
# would make npm compile on every install.
{
  "targets": [
    {
      "target_name": "fornax_bridge",
      "type": "none",
      "actions": [
        {
          "action_name": "cmake_js",
          "inputs": [],
          "outputs": ["<(module_root_dir)/build/Release/fornax.node"],
          "action": ["node", "<(module_root_dir)/scripts/run.mjs", "build"]
        }
      ]
    }
  ]
}
