// Reads the devcontainer.json of the folder that a container's labels name, before what its engine
// said is taken in, so that both are there together. Owned by EngineFacts. A container whose file
// system does not answer waits for the reader's deadline, and nobody else does.
#pragma once

#include <sys/types.h>

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "broker/client/reader.h"
#include "devcontainer/workspace.h"
#include "engine/container_facts.h"

namespace portfwd {

class WorkspaceFiles {
 public:
  using Learn = std::function<void(const ContainerFacts&)>;

  /// @param files a reader of files, borrowed @param owner whose files are read
  /// @param learn is given the facts with what the file says
  WorkspaceFiles(Reader& files, uid_t owner, Learn learn)
      : files_(files), owner_(owner), learn_(std::move(learn)) {}

  /// Calls `learn` at once when the labels name no folder.
  void add(const ContainerFacts& facts);
  /// The container has gone.
  void forget(const std::string& id) { reading_.erase(id); }

 private:
  struct Reading {
    ContainerFacts facts;
    std::vector<devcontainer::ConfigPlace> places;  ///< the first of them is being read
    Reader::Call call;
  };
  void read_first(const std::string& id, Reading& reading);
  void on_file(const std::string& id, const Result<std::string>& text);

  Reader& files_;
  uid_t owner_;
  Learn learn_;
  std::map<std::string, Reading> reading_;  ///< by the engine's id
};

}  // namespace portfwd
